pytest_plugins = [
    "tests.airflow_home",
    "tests.servers",
    "tests.house",
    "tests.contracts.plugin",
    "tests.contracts.opentext_plugin",
]
