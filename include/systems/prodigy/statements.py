"""All SQL that is written out as text; what SQLAlchemy can say of itself stands where it is used."""

from __future__ import annotations

# Transactions and locks -----------------------------------------------------------------------------------------------

BEGIN = "BEGIN"
BEGIN_WRITING = "BEGIN IMMEDIATE"
"""On SQLite: a writer takes the lock at once, for a read that turns into a write would fail beside another writer."""

LOCK_TIMEOUT = {
    "postgresql": "SET lock_timeout = '{seconds}s'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = {seconds}",
}

# Tables and rights ----------------------------------------------------------------------------------------------------

CONTENT_WIDTH = """SELECT character_maximum_length FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'example' AND column_name = 'content'"""

LARGEST_PACKET = "SELECT @@max_allowed_packet"

ID_IS_NO_IDENTITY = "SELECT attidentity = '' FROM pg_attribute WHERE attrelid = CAST(:t AS regclass) AND attname = 'id'"
"""On PostgreSQL: an identity column may refuse ids that are given."""

FILES = "PRAGMA database_list"

# Inserting ------------------------------------------------------------------------------------------------------------

NEWEST_EXAMPLE = "SELECT coalesce(max(id), 0) FROM example"
INSERT_EXAMPLE = "INSERT INTO example (id, input_hash, task_hash, content) VALUES (?, ?, ?, ?)"
INSERT_LINK = "INSERT INTO link (example_id, dataset_id) VALUES (?, ?)"

INSERT_EXAMPLES = """INSERT INTO example (id, input_hash, task_hash, content)
SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:inputs AS bigint[]), CAST(:tasks AS bigint[]),
CAST(:contents AS {kind}[]))"""

INSERT_LINKS = """INSERT INTO link (id, example_id, dataset_id)
SELECT id, example_id, :dataset
FROM unnest(CAST(:ids AS bigint[]), CAST(:examples AS bigint[])) AS given (id, example_id)"""

# Counting -------------------------------------------------------------------------------------------------------------

_SESSION = """(SELECT d.name FROM link o JOIN dataset d ON d.id = o.dataset_id
    WHERE o.example_id = l.example_id AND d.session = #TRUE ORDER BY o.id LIMIT 1)"""

_FROM = """FROM link l JOIN example e ON e.id = l.example_id
    WHERE l.dataset_id = :dataset AND l.id > :after AND l.id <= :upto"""

_WHOLE_SECONDS = "^[0-9]{1,10}([.][0-9]{1,5})?$"
"""Times whose day the database works out; others are rare, and their day is found here."""

# Each field is fetched as JSON text, so that all unescaping is done in one place, when they are read.
COUNT_POSTGRESQL = f"""
SELECT kind, annotator, named, review, answer, label, accept, spans, day, session, count(*) FROM (
  SELECT jsonb_typeof(doc) = 'object' AS kind, CAST(doc->'_annotator_id' AS text) AS annotator,
    CAST(doc->'_session_id' AS text) AS named,
    coalesce(jsonb_typeof(doc->'versions') <> 'null', false) AS review,
    CAST(doc->'answer' AS text) AS answer, CAST(doc->'label' AS text) AS label,
    CASE WHEN unlabelled THEN CAST(doc->'accept' AS text) END AS accept,
    CASE WHEN NOT unlabelled OR coalesce(jsonb_typeof(doc->'spans'), 'null') = 'null' THEN NULL
      WHEN jsonb_typeof(doc->'spans') = 'array'
      THEN CAST(jsonb_path_query_array(doc->'spans', '$[*] ? (@.type() == "object").label') AS text)
      ELSE '0' END AS spans,
    CASE WHEN CAST(doc->'_timestamp' AS text) ~ '{_WHOLE_SECONDS}'
      THEN 'day' || div(CAST(doc->>'_timestamp' AS numeric), 86400)
      ELSE CAST(doc->'_timestamp' AS text) END AS day,
    session
  FROM (SELECT doc, coalesce(jsonb_typeof(doc->'label'), 'null') = 'null' AS unlabelled, session
    FROM (SELECT CAST(#CONTENT AS jsonb) AS doc, {_SESSION} AS session {_FROM} OFFSET 0) AS parsed) AS marked
) AS fields GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"""  # noqa: S608 - of this module's own pieces

# BINARY, because the database's collation would take names that differ in case for one. What is not the same after
# having been UTF-8 was not UTF-8.
COUNT_MYSQL = f"""
SELECT fine, annotator, named, review, answer, label, accept, spans, day, session, count(*) FROM (
  SELECT fine, CAST(JSON_EXTRACT(doc, '$."_annotator_id"') AS BINARY) AS annotator,
    CAST(JSON_EXTRACT(doc, '$."_session_id"') AS BINARY) AS named,
    COALESCE(JSON_TYPE(JSON_EXTRACT(doc, '$.versions')) <> 'NULL', 0) AS review,
    CAST(JSON_EXTRACT(doc, '$.answer') AS BINARY) AS answer, CAST(JSON_EXTRACT(doc, '$.label') AS BINARY) AS label,
    CASE WHEN unlabelled THEN CAST(JSON_EXTRACT(doc, '$.accept') AS BINARY) END AS accept,
    CASE WHEN NOT unlabelled OR COALESCE(JSON_TYPE(JSON_EXTRACT(doc, '$.spans')), 'NULL') = 'NULL' THEN NULL
      WHEN JSON_TYPE(JSON_EXTRACT(doc, '$.spans')) = 'ARRAY'
      THEN COALESCE(CAST(JSON_EXTRACT(doc, '$.spans[*].label') AS BINARY), '[]')
      ELSE '0' END AS spans,
    CASE WHEN CAST(JSON_EXTRACT(doc, '$."_timestamp"') AS CHAR) REGEXP '{_WHOLE_SECONDS}'
      THEN CONCAT('day', FLOOR(CAST(JSON_EXTRACT(doc, '$."_timestamp"') AS CHAR)) DIV 86400)
      ELSE CAST(JSON_EXTRACT(doc, '$."_timestamp"') AS BINARY) END AS day,
    session
  FROM (SELECT fine, session, CASE WHEN fine THEN words ELSE '{{}}' END AS doc,
      COALESCE(JSON_TYPE(JSON_EXTRACT(CASE WHEN fine THEN words ELSE '{{}}' END, '$.label')), 'NULL') = 'NULL'
        AS unlabelled
    FROM (SELECT words, session, JSON_VALID(words) AND CONVERT(words USING binary) = raw
        AND JSON_TYPE(words) = 'OBJECT' AS fine
      FROM (SELECT #CONTENT AS words, e.content AS raw, CAST({_SESSION} AS BINARY) AS session {_FROM}
      ) AS given) AS parsed) AS marked
) AS fields GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"""  # noqa: S608 - of this module's own pieces
