"""Pages and charts for people who were not there: who decided what, on which data, under which guideline."""
