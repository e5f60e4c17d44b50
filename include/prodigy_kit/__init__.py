"""What is installed beside the customer's own Prodigy: recipes and a supervisor.

The two modules are copied as single files, so neither imports anything of this project.
"""
