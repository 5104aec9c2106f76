"""A .dbs project as DDL, a schema as plain facts, and the difference of two sets of facts.

Both the migrated schema and the one made from the .dbs are described by PostgreSQL's own catalogs, so that an
expression spelt differently but meaning the same is no difference.
"""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import asyncpg
from defusedxml import ElementTree

COLUMNS = """
SELECT c.relname || '.' || a.attname AS name,
       format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
       || CASE a.attidentity WHEN 'a' THEN ' identity' ELSE '' END
       || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
       || coalesce(' -- ' || col_description(c.oid, a.attnum), '') AS fact
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
"""
TABLES = """
SELECT c.relname AS name, CASE c.relpersistence WHEN 'u' THEN 'unlogged ' ELSE '' END
       || coalesce(array_to_string(c.reloptions, ', '), '')
       || coalesce(' -- ' || obj_description(c.oid, 'pg_class'), '') AS fact
FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r'
"""
INDEXES = """
SELECT i.relname AS name,
       replace(pg_get_indexdef(i.oid), $2 || '.', '')
       || CASE WHEN x.indisprimary THEN ' primary' ELSE '' END AS fact
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE i.relnamespace = $1::regnamespace
"""
CHECKS = """
SELECT conrelid::regclass::text || '.' || conname AS name, pg_get_constraintdef(oid) AS fact
FROM pg_constraint WHERE connamespace = $1::regnamespace AND contype IN ('c', 'f', 'u')
"""
FUNCTIONS = """
SELECT proname || '(' || pg_get_function_identity_arguments(f.oid) || ')' AS name,
       pg_get_function_result(f.oid) || ' ' || provolatile::text || proparallel::text || proisstrict::text
       || ' ' || coalesce(pg_get_function_sqlbody(f.oid), prosrc) AS fact
FROM pg_proc f WHERE pronamespace = $1::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = f.oid AND d.deptype = 'e') -- an extension's
"""
FACTS = {"table": TABLES, "column": COLUMNS, "index": INDEXES, "check": CHECKS, "function": FUNCTIONS}


def read_dbs(path: Path) -> Element:
    """Return the one schema of a .dbs project."""
    schema = ElementTree.parse(path).getroot().find("schema")
    assert schema is not None
    return schema


def ddl(schema: Element, name: str) -> list[str]:
    """Return the statements that make a schema as the .dbs describes it, under another name."""
    statements = [f"CREATE SCHEMA {name}", f"SET search_path = {name}"]
    statements += [_text(f, "string").replace("public.", "") for f in schema.iter("function")]
    for table in schema.iter("table"):
        statements += _table(table)
    return statements


def _table(table: Element) -> list[str]:
    name = table.attrib["name"]
    parts = [_column(column) for column in table.findall("column")]
    for index in table.findall("index"):
        if index.attrib["unique"] == "PRIMARY_KEY":
            parts.append(f"CONSTRAINT {index.attrib['name']} PRIMARY KEY ({_columns(index)})")
    for check in table.findall("constraint"):
        parts.append(f"CONSTRAINT {check.attrib['name']} CHECK ({_text(check, 'string')})")
    spec = table.attrib.get("spec", "")
    statements = [f"CREATE {spec} TABLE {name} ({', '.join(parts)}) {_text(table, 'options')}"]
    for index in table.findall("index"):
        if index.attrib["unique"] != "PRIMARY_KEY":
            unique = "" if index.attrib["unique"] == "NORMAL" else "UNIQUE "
            where = index.attrib.get("options", "")
            statements.append(
                f"CREATE {unique}INDEX {index.attrib['name']} ON {name} ({_columns(index)}) {where}"
            )
    if comment := _text(table, "comment"):
        statements.append(f"COMMENT ON TABLE {name} IS {_quoted(comment)}")
    for column in table.findall("column"):
        if comment := _text(column, "comment"):
            statements.append(f"COMMENT ON COLUMN {name}.{column.attrib['name']} IS {_quoted(comment)}")
    return statements


def _column(column: Element) -> str:
    kind = column.attrib["type"]
    if "length" in column.attrib:
        kind += f"({column.attrib['length']}, {column.attrib.get('decimal', '0')})"
    default = _text(column, "defo")
    return " ".join(
        [
            column.attrib["name"],
            kind,
            f"DEFAULT {default}" if default else "",
            _text(column, "identity"),
            "NOT NULL" if column.attrib.get("mandatory") == "y" else "",
        ]
    )


def _columns(index: Element) -> str:
    return ", ".join(column.attrib["name"] for column in index.findall("column"))


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


async def facts(connection: asyncpg.Connection, schema: str) -> dict[str, str]:
    """Return what the catalogs say of a schema: kind and name → description."""
    # Names of the schema itself must not show, or two schemas could never be equal.
    await connection.execute(f"SET search_path = {schema}")
    found = {}
    for kind, query in FACTS.items():
        arguments: tuple[Any, ...] = (schema, schema) if "$2" in query else (schema,)
        for row in await connection.fetch(query, *arguments):
            found[f"{kind} {row['name']}"] = row["fact"]
    return found


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return a line for each difference."""
    lines = []
    for name in sorted({*expected, *found}):
        if name not in found:
            lines.append(f"{name}: in the .dbs, not in the database")
        elif name not in expected:
            lines.append(f"{name}: in the database, not in the .dbs")
        elif expected[name] != found[name]:
            lines.append(f"{name}: {expected[name]!r} in the .dbs, {found[name]!r} in the database")
    return lines
