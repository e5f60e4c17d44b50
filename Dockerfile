# Astro Runtime 3.3-8 is Airflow 3.3.2. Its build triggers install packages.txt and requirements.txt and copy the
# project to /usr/local/airflow, before the lines below are run.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12

# `--build-arg LABELOPS_LOCKED=true` brings every package to the version that the tests ran with.
ARG LABELOPS_LOCKED=false

USER root
# The project installs itself as a distribution with a provider entry point, because Airflow's connection form shows
# types of installed distributions only. It is editable, so that the code in plugins/ is the one that runs.
RUN if [ "${LABELOPS_LOCKED}" = "true" ]; then \
      python -m pip install --no-cache-dir --no-deps --require-hashes -r /usr/local/airflow/requirements.lock; \
    fi \
    && python -m pip install --no-cache-dir --no-deps --editable /usr/local/airflow
USER astro

ENV PYTHONPATH=/usr/local/airflow \
    AIRFLOW__CORE__PLUGINS_FOLDER=/usr/local/airflow/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False
