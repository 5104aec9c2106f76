"""The .dbs file by itself: everything it names is there, and no connector holds a password."""

from collections import Counter
from pathlib import Path

from defusedxml import ElementTree

DBS = Path(__file__).parents[2] / "schema/orders.dbs"
PROJECT = ElementTree.parse(DBS).getroot()
TABLES = {table.attrib["name"]: table for table in PROJECT.iter("table")}


def columns_of(table: str) -> set[str]:
    return {column.attrib["name"] for column in TABLES[table].findall("column")}


def test_it_is_a_postgresql_project_of_one_schema() -> None:
    assert PROJECT.tag == "project"
    assert PROJECT.attrib["database"] == "PostgreSQL"
    assert [schema.attrib["name"] for schema in PROJECT.findall("schema")] == ["public"]


def test_names_are_unique() -> None:
    for tag in ("table", "index", "constraint", "fk"):
        counts = Counter(element.attrib["name"] for element in PROJECT.iter(tag))
        assert [name for name, count in counts.items() if count > 1] == []


def test_index_columns_and_foreign_keys_resolve() -> None:
    for name, table in TABLES.items():
        for index in table.findall("index"):
            assert {c.attrib["name"] for c in index.findall("column")} <= columns_of(name), index.attrib
        for key in table.findall("fk"):
            target = key.attrib["to_table"]
            assert {c.attrib["name"] for c in key.findall("fk_column")} <= columns_of(name)
            assert {c.attrib["pk"] for c in key.findall("fk_column")} <= columns_of(target)


def test_no_foreign_key_is_real() -> None:
    """Events come in any order, so a real key would refuse an invoice that is first."""
    assert all(key.attrib.get("virtual") == "y" for key in PROJECT.iter("fk"))


def test_every_table_is_in_the_layout_and_in_one_group() -> None:
    layout = PROJECT.find("layout")
    assert layout is not None
    assert {entity.attrib["name"] for entity in layout.findall("entity")} == set(TABLES)
    grouped = Counter(e.attrib["name"] for group in layout.findall("group") for e in group.findall("entity"))
    assert grouped == Counter(list(TABLES))


def test_there_is_no_connector() -> None:
    assert list(PROJECT.iter("connector")) == []
