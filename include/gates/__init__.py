"""Gates: data-quality suites as plain data, executed by Great Expectations on staged rows."""
