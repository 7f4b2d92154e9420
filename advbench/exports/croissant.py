"""``croissant.json``: what the files are, for machines, as JSON-LD of Croissant 1.0."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from advbench.exports.columns import Column

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_TYPES = {"text": "sc:Text", "integer": "sc:Integer", "number": "sc:Float"}


@dataclass(frozen=True)
class FileObject:
    """One file, named by its path; its sha256 is looked up."""

    path: str
    what: str
    mime: str


@dataclass(frozen=True)
class FileSet:
    """Many files: below the folder, or in the files of ``inside``."""

    name: str
    what: str
    patterns: tuple[str, ...]
    mime: str
    inside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Records in the columns of files: plain ones, and pictures as structs of bytes and path."""

    name: str
    what: str
    file_set: str
    columns: Sequence[Column]
    pictures: Sequence[str]


@dataclass
class Distribution:
    """The files of an export and the tables in them, beside ``metadata.csv``."""

    file_objects: list[FileObject] = field(default_factory=list)
    file_sets: list[FileSet] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class About:
    """Hold what Croissant says of the whole.

    Attributes:
        licences, cited: a line for each dataset.
        published: a date, YYYY-MM-DD.
        url: where it is published; None where that is not known.
    """

    name: str
    description: str
    version: str
    licences: Sequence[str]
    cited: str
    creator: str
    published: str
    url: str | None = None


def croissant(
    about: About, distribution: Distribution, columns: Sequence[Column], sums: dict[str, str]
) -> str:
    """The file's text.

    Args:
        columns: of ``metadata.csv``.
        sums: sha256 by path.
    """
    plain = [
        FileObject("metadata.csv", "one row an adversarial image", "text/csv"),
    ]
    csv_table = Table("adversarial", "one record an adversarial image", "metadata.csv", columns, ())
    records = [_table(csv_table, "fileObject")]
    records += [_table(table, "fileSet") for table in distribution.tables]
    records += [_files(each) for each in distribution.file_sets if each.mime == "image/png"]
    text: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": about.name,
        "description": about.description,
        "version": about.version,
        "license": list(about.licences),
        "citeAs": about.cited,
        "creator": {"@type": "sc:Organization", "name": about.creator},
        "datePublished": about.published,
        "keywords": ["image forensics", "forgery localization", "adversarial attacks"],
        "distribution": [
            *(_file_object(each, sums) for each in [*plain, *distribution.file_objects]),
            *(_file_set(each) for each in distribution.file_sets),
        ],
        "recordSet": records,
    }
    if about.url:
        text["url"] = about.url
    return json.dumps(text, indent=2, ensure_ascii=False) + "\n"


def _file_object(each: FileObject, sums: dict[str, str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": each.path,
        "name": each.path,
        "description": each.what,
        "contentUrl": each.path,
        "encodingFormat": each.mime,
        "sha256": sums[each.path],
    }


def _file_set(each: FileSet) -> dict[str, Any]:
    inside = [{"@id": path} for path in each.inside]
    return {
        "@type": "cr:FileSet",
        "@id": each.name,
        "name": each.name,
        "description": each.what,
        "encodingFormat": each.mime,
        "includes": list(each.patterns),
        **({"containedIn": inside} if inside else {}),
    }


def _table(table: Table, kind: str) -> dict[str, Any]:
    fields = [
        _field(table.name, column.name, column.meaning, _TYPES[column.type])
        | {"source": {kind: {"@id": table.file_set}, "extract": {"column": column.name}}}
        for column in table.columns
    ]
    fields += [
        _field(table.name, name, f"PNG: {name}", "sc:ImageObject")
        | {
            "source": {
                kind: {"@id": table.file_set},
                "extract": {"column": name},
                "transform": {"jsonPath": "bytes"},
            }
        }
        for name in table.pictures
    ]
    return _record_set(table.name, table.what, fields)


def _files(file_set: FileSet) -> dict[str, Any]:
    """Path and content of each file of a set."""
    name = f"{file_set.name}-content"
    source = {"fileSet": {"@id": file_set.name}}
    fields = [
        _field(name, "path", "as in metadata.csv", "sc:Text")
        | {"source": source | {"extract": {"fileProperty": "fullpath"}}},
        _field(name, "content", "the picture", "sc:ImageObject")
        | {"source": source | {"extract": {"fileProperty": "content"}}},
    ]
    return _record_set(name, file_set.what, fields)


def _field(table: str, name: str, what: str, data_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{table}/{name}",
        "name": name,
        "description": what,
        "dataType": data_type,
    }


def _record_set(name: str, what: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": what,
        "field": fields,
    }


# As the specification of Croissant 1.0 gives it.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
