"""Writes the awkward files of this folder: `python -m tests.spreadsheets.make`.

Each is a file as somebody's program or habits make it. Beside it stands its report: what
`update_users` makes of it (`tests/test_spreadsheets.py`).
"""

from __future__ import annotations

import re
import zipfile
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

from openpyxl import Workbook

FOLDER = Path(__file__).parent

MARY, JOHN, ZOE, MAX = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(1, 5))
PEOPLE = {
    MARY: ("Mary Ann Smith", "mary@example.com"),
    JOHN: ("John Doe", "john@example.com"),
    ZOE: ("Zoe Angstrom", "zoe@example.com"),
    MAX: ("=Max  Roe", "max@example.com"),  # another application stores what it likes
}
GROUP, GROUP_ID = "Oak Hill", "00000000-0000-4000-9000-000000000001"

NEW_NAMES = f"id,name\n{MARY},Mary Ann Jones\n{ZOE},Zoë Ångström\n"
GERMAN = NEW_NAMES.replace(",", ";")


def files() -> dict[str, bytes]:
    return {
        "utf-8.csv": NEW_NAMES.encode(),
        "utf-8-with-mark.csv": GERMAN.replace("\n", "\r\n").encode("utf-8-sig"),
        "utf-16.csv": NEW_NAMES.replace(",", "\t").encode("utf-16"),
        "utf-16-without-mark.csv": NEW_NAMES.encode("utf-16-le"),
        "windows-1252.csv": GERMAN.encode("cp1252"),
        "windows-1251.csv": f"id,name\n{MARY},Мария Иванова\n{JOHN},Иван Петров\n".encode("cp1251"),
        "separator-line.csv": ("sep=;\n" + GERMAN).encode(),
        "separator-of-its-own.csv": ("sep=|\r\n" + NEW_NAMES.replace(",", "|")).encode(),
        "old-mac.csv": NEW_NAMES.replace("\n", "\r").encode(),
        "blank-lines-and-columns.csv": (
            f"\n,,,,\nid,,name,,\n\n{MARY},,Mary Ann Jones,,\n,,,,\n{ZOE},,Zoë Ångström,,\n,,,,\n"
        ).encode(),
        "text-without-header.csv": f"id,,name\n{MARY},here,Mary Ann Jones,there\n".encode(),
        "lines-in-cells.csv": (
            f'id,name,role\n{MARY},"Mary Ann\nJones",\n{JOHN},"Doe, ""Jim""",\n{ZOE},,KING\n'
        ).encode(),
        "other-headers.csv": (
            b"E-mail,First Name,Last Name,Company\n"
            b"mary@example.com,Mary Ann,Jones,oak hill\n"
            b"JOHN@example.com,Cher,(none),\n"
            b"zoe@example.com,,,Oak  Hill\n"
        ),
        "half-names.csv": (
            b"email,First Name,Surname,name\n"
            b"mary@example.com,Mary Ann,,\n"
        ),
        "parts-of-names.csv": (
            b"email,First Name,Surname\n"
            b"mary@example.com,Mary Ann,\n"
            b"john@example.com,John,NULL\n"
            b"zoe@example.com,Jennifer,Null\n"
        ),
        "no-parts-of-names.csv": (
            b"email,First Name,Surname\n"
            b"mary@example.com,=cmd|' /C calc'!A0,Smith\n"
            b"john@example.com,N/A,#N/A\n"
            b"zoe@example.com,2026-03-04,null\n"
            b"max@example.com,NA,Na\n"
        ),
        "unknown-columns.csv": (
            f"id,name,Phone,Shoe size\n{MARY},Mary Ann Jones,1,42\n{JOHN},<b>,2,43\n"
        ).encode(),
        "our-export.csv": (
            "id,clerk_id,name,email,role,internal_role,builder_group,created_at,updated_at\n"
            f"{MARY},,Mary Ann Smith,mary@example.com,BUILDER,,,2026-01-02,2026-01-03\n"
            f"{MAX},,'=Max  Roe,max@example.com,BUILDER,,,2026-01-02,2026-01-03\n"
            f"{ZOE},,Zoë Ångström,zoe@example.com,Builder,,{GROUP},2026-01-02,2026-01-03\n"
        ).encode(),
        "no-names.csv": (
            b"email,name\n"
            b"mary@example.com,=cmd|' /C calc'!A0\n"
            b"mary@example.com,@Mary\n"
            b"john@example.com,2026-03-04\n"
            b"zoe@example.com,NULL\n"
        ),
        "no-names-either.csv": (
            b"email,name\n"
            b"mary@example.com,#REF!\n"
            b"john@example.com,4-Mar\n"
            b"zoe@example.com,45000\n"
        ),
        "failed-formulas.csv": (
            b"email,name\n"
            b"mary@example.com,#SPILL!\n"
            b"john@example.com,#WERT!\n"
            b"zoe@example.com,Err:502\n"
        ),
        "line-in-first-header.csv": (
            b'"E-mail\naddress";"Full\nname"\r\nmary@example.com;Mary Ann Jones\r\n'
        ),
        "invisible-around.csv": (
            "\u200be-mail\u00a0,name,\u200b\n"
            "\u202amary@example.com\u202c,Mary Ann Jones\u200b,\u2060\n"
            "\u200b,,\n"
        ).encode(),
        "invisible-inside.csv": (
            f"id,email\n{MARY},mary@exam\u200bple.com\n{JOHN},jo\u00adhn@example.com\n"
        ).encode(),
        "all-wrong.csv": (
            "Key,id,name,email,role,internal_role,builder_group,new_address\n"
            f"1,{MARY},<b>,no address,KING,,,\n"
            f"2,{JOHN},,mary@example.com,BUILDER,Employee,Elm,elsewhere\n"
            f"3,{JOHN},,,,,,\n"
            "4,no-id,,,,,,\n"
            f"5,{ZOE},too,few\n"
            "6,,,,,,,\n"
        ).encode(),
        "no-key.csv": b"name,role\nMary Ann Jones,KING\nJohn\n",
        "header-alone.csv": b"id,name\n\n",
        "cut-off.csv": f'id,name\n{MARY},<b>\n{JOHN},"John Ro'.encode(),
        "empty.csv": b"\xef\xbb\xbf\n \n",
        "picture.csv": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(128, 256)),
        "old-excel.xlsx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504),
        "excel.xlsx": _workbook(),
        "values-in-excel.xlsx": _values(),
        "hidden-and-merged.xlsx": _hidden_and_merged(),
        "escapes.xlsx": _escapes(),
        "no-parts-of-names.xlsx": _no_parts_of_names(),
        "formulas.xlsx": _formulas(),
        "half-an-excel.xlsx": _workbook()[:2000],
        "archive.xlsx": _archive(),
        "row-of-a-high-number.xlsx": _row_of_a_high_number(),
        "document.xlsx": _document(),
        "encrypted-archive.xlsx": _encrypted(),
    }  # fmt: skip


def _workbook() -> bytes:
    """A title line is missing, a blank column is not; and there are sheets besides."""
    book = Workbook()
    sheet = book.active
    sheet.title = "Fixes"
    for row in (
        [],
        ["E-Mail", None, "Name", "Group"],
        ["mary@example.com", None, " Mary Ann  Jones ", None],
        [],
        ["john@example.com"],
        ["zoe@example.com", None, "Zoë Ångström", "Oak Hill"],
    ):
        sheet.append(row)
    book.create_sheet("Old").append(["nothing"])
    book.create_sheet("Secret").sheet_state = "hidden"
    return _saved(book)


def _values() -> bytes:
    """Cells that are no texts."""
    book = Workbook()
    for row in (
        ["email", "name", "company"],
        ["mary@example.com", date(2026, 3, 4), 2024],
        ["john@example.com", True, 20.5],
        ["zoe@example.com", 45000, date(2026, 3, 4)],
        ["max@example.com", timedelta(days=1, hours=2), None],
    ):
        book.active.append(row)
    return _saved(book)


def _hidden_and_merged() -> bytes:
    """A filter hides a row, and one cell seems to be the group of two people."""
    book = Workbook()
    sheet = book.active
    for row in (
        ["email", "name", "company"],
        ["mary@example.com", None, "Oak Hill"],
        ["john@example.com", None, None],
        ["zoe@example.com", "Zoë Ångström", None],
    ):
        sheet.append(row)
    sheet.merge_cells("C2:C3")
    sheet.row_dimensions[4].hidden = True
    return _saved(book)


def _escapes() -> bytes:
    """Characters as Excel stores those that XML cannot hold, and a text that only looks so."""
    book = Workbook()
    for row in (
        ["email", "name"],
        ["mary@example.com", "Mary Ann Jones_x000D_"],
        ["john@example.com", "John _x005F_x0052_ Roe"],
        ["zoe@example.com", "Zo_x00EB_ _xD835__xDC00_"],
    ):
        book.active.append(row)
    return _saved(book)


def _no_parts_of_names() -> bytes:
    """A date, a number, an error and a formula where a part of a name is expected."""
    book = Workbook()
    for row in (
        ["email", "First name", "Last name"],
        ["mary@example.com", date(2026, 3, 4), "Smith"],
        ["john@example.com", "John", 45000],
        ["zoe@example.com", "#REF!", "(none)"],
        ["max@example.com", "Max", '="R"&"oe"'],
    ):
        book.active.append(row)
    return _saved(book)


def _formulas() -> bytes:
    """The first formula has its result, as Excel stores it; the second has none."""
    book = Workbook()
    for row in (
        ["email", "name"],
        ["mary@example.com", '="Mary Ann "&"Jones"'],
        ["john@example.com", '="John "&"Roe"'],
    ):
        book.active.append(row)
    return _edited(
        _saved(book),
        rb'<c r="B2"[^>]*>(<f>.*?</f>)<v\s*/?>(</v>)?</c>',
        rb'<c r="B2" t="str">\1<v>Mary Ann Jones</v></c>',
    )


def _edited(book: bytes, pattern: bytes, replacement: bytes) -> bytes:
    """The workbook with the one place in its sheet that fits the pattern replaced."""
    written = BytesIO()
    with zipfile.ZipFile(BytesIO(book)) as before, zipfile.ZipFile(written, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name.endswith("sheet1.xml"):
                content, count = re.subn(pattern, replacement, content)
                assert count == 1
            after.writestr(name, content)
    return written.getvalue()


def _archive() -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    return written.getvalue()


def _row_of_a_high_number() -> bytes:
    """Whoever fills in the rows before it never ends."""
    book = Workbook()
    for row in (["email", "name"], ["mary@example.com", "Mary Ann Jones"]):
        book.active.append(row)
    return _edited(_saved(book), rb'<row r="2"', b'<row r="99999999999"')


def _document() -> bytes:
    """A text document, which is packed as a workbook is."""
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(
            zipfile.ZipInfo("[Content_Types].xml"),  # without the time at which it was made
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
        )
    return written.getvalue()


def _encrypted() -> bytes:
    """Encrypted by the program that packed it, not by Excel: the bit is set in each header."""
    content = bytearray(_document())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    return bytes(content)


def _saved(book: Workbook) -> bytes:
    written = BytesIO()
    book.save(written)
    return written.getvalue()


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)
