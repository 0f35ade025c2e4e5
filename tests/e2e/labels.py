"""Labels in files by the command, read back by readers that are not its own: Python's zipfile, XML, HTML and JSON; PyYAML,
pypdf and Pillow where they are installed.

argv: the program. Prints "ok ..." or "FAILED ..." per check.
"""
import html.parser
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
import zipfile
import zlib

from service import check

program = sys.argv[1]
CODE, OTHER = "001191110102MAD55U9H0F10002", "001191440300708461136T1XGW3"
FIELDS = ["Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2"]
XMP = "XML:com.adobe.xmp"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/"


def label(*words):
    return subprocess.run([program, "govern", "label", *map(str, words)], capture_output=True, text=True, timeout=60)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_chunks(data):
    at = 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind, data[at + 8:at + 8 + size]
        at += 12 + size


def of_xmp(packet):
    found = xml.fromstring(packet).iter("{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC")
    return [json.loads(one.text) for one in found]


def of_json(path):
    pairs = json.loads(path.read_text(), object_pairs_hook=lambda p: p)
    return [dict(value) for name, value in pairs if name == "AIGC"]


def of_markdown(path):
    try:
        import yaml
    except ImportError:
        return None
    text = path.read_text()
    return [yaml.safe_load(text.split("---\n")[1])["AIGC"]] if text.startswith("---\n") else []


def of_html(path):
    found = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            values = dict(attributes)
            if tag == "meta" and values.get("name") == "AIGC":
                found.append(json.loads(values["content"]))

    Reader().feed(path.read_text())
    return found


def of_docx(path):
    with zipfile.ZipFile(path) as file:
        if file.testzip() is not None or "docProps/custom.xml" not in file.namelist():
            return []
        types = xml.fromstring(file.read("[Content_Types].xml"))
        relations = xml.fromstring(file.read("_rels/.rels"))
        properties = xml.fromstring(file.read("docProps/custom.xml"))
    named = any(t.get("PartName") == "/docProps/custom.xml" for t in types.iter(f"{{{PACKAGE}content-types}}Override"))
    related = any(r.get("Target") == "docProps/custom.xml" for r in relations.iter(f"{{{PACKAGE}relationships}}Relationship"))
    if not (named and related):
        return []
    return [json.loads(p[0].text) for p in properties.iter(f"{{{OFFICE}custom-properties}}property") if p.get("name") == "AIGC"]


def of_pdf(path):
    try:
        import pypdf
    except ImportError:
        return None
    info = pypdf.PdfReader(path).metadata
    return [json.loads(info["/AIGC"])] if "/AIGC" in info else []


def of_png(path):
    found = []
    for kind, data in png_chunks(path.read_bytes()):
        if kind == b"iTXt" and data.startswith(XMP.encode() + b"\0"):
            found += of_xmp(data[len(XMP) + 5:].decode())
    return found


def of_jpeg(path):
    try:
        from PIL import Image
    except ImportError:
        return None
    with Image.open(path) as image:
        image.load()
        packet = image.info.get("xmp")
    return of_xmp(packet.decode()) if packet else []


def make(work):
    (work / "a.json").write_text('{"text": "\\u7b54", "n": 1.50}')
    (work / "a.md").write_text("---\ntitle: 答\n---\n# 答\n")
    (work / "a.html").write_text("<!doctype html>\n<html><head><title>a</title></head><body><p>text</p></body></html>\n")
    with zipfile.ZipFile(work / "a.docx", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", f'<Types xmlns="{PACKAGE}content-types"><Default Extension="xml" ContentType="application/xml"/></Types>')
        file.writestr("_rels/.rels", f'<Relationships xmlns="{PACKAGE}relationships"><Relationship Id="rId1" Type="{OFFICE}relationships/officeDocument" Target="word/document.xml"/></Relationships>')
        file.writestr("word/document.xml", "<w:document xmlns:w='urn:w'>text</w:document>")
    pdf = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate((b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
                                   b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] >>", b"<< /Title (Old title) >>"), 1):
        places.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(pdf)
    pdf += b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % p for p in places)
    (work / "a.pdf").write_bytes(pdf + b"trailer\n<< /Size 5 /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n" % table)
    (work / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)) +
                                 chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b""))
    readers = {"a.json": of_json, "a.md": of_markdown, "a.html": of_html, "a.docx": of_docx, "a.pdf": of_pdf, "a.png": of_png}
    try:
        from PIL import Image
        Image.new("RGB", (8, 8), "red").save(work / "a.jpg")
        readers["a.jpg"] = of_jpeg
    except ImportError:
        print("skipped jpeg: Pillow is not installed")
    return readers


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    for key in ("key", "other"):
        subprocess.run([program, "govern", "audit", "key", work / key], check=True, capture_output=True, timeout=60)
    for name, read in make(work).items():
        path = work / name
        before = label("check", path)
        check(f"{name}: nothing is found in what has no label", before.returncode == 4 and "not_found" in before.stdout)
        first = label("write", path, "--producer", CODE)
        number = first.stdout.strip()
        found = read(path)
        if found is None:
            print(f"skipped {name}: no other reader of it is installed")
        else:
            values = [CODE if f == "ContentProducer" else number if f == "ProduceID" else "1" if f == "Label" else "" for f in FIELDS]
            check(f"{name}: another reader finds the one label", found == [dict(zip(FIELDS, values))])
            check(f"{name}: its fields are in the standard's order", found and list(found[0]) == FIELDS)
        second = label("write", path, "--producer", OTHER, "--id", "second", "-o", work / f"second-{name}")
        seen = json.loads(label("check", "--json", work / f"second-{name}").stdout)
        check(f"{name}: who passes it on is entered, the producer stays",
              second.returncode == 0 and seen["verdict"] == "compliant" and len(seen["labels"]) == 1 and
              seen["labels"][0]["ProduceID"] == number and seen["labels"][0]["ContentPropagator"] == OTHER)
        check(f"{name}: what has a label is in order", label("check", path).returncode == 0)
        damaged = work / f"cut-{name}"
        damaged.write_bytes(path.read_bytes()[:-3])
        cut = label("write", damaged, "--producer", CODE)
        same = damaged.read_bytes() == path.read_bytes()[:-3]
        check(f"{name}: a file that ends early is told of, or labelled, and never lost",
              cut.returncode == 0 or (cut.returncode == 3 and same and cut.stderr.count("\n") == 1))
        signed, other = work / f"signed-{name}", work / f"other-{name}"
        once = label("write", work / f"second-{name}", "--producer", CODE, "--key", work / "key", "--model", "mini", "-o", signed)
        told = json.loads(label("verify", signed, "--key", work / "key.pub", "--json").stdout)
        check(f"{name}: a signed statement is verified", once.returncode == 0 and told["verified"] and told["statements"][0]["model"] == "mini"
              and label("check", signed).returncode == 0)
        check(f"{name}: not by another key", label("verify", signed, "--key", work / "other.pub").returncode == 4)
        other.write_bytes(signed.read_bytes().replace(CODE.encode(), OTHER.encode()))
        check(f"{name}: nor of another label", other.read_bytes() == signed.read_bytes() or label("verify", other, "--key", work / "key.pub").returncode == 4)
        check(f"{name}: nor where there is none", label("verify", path, "--key", work / "key.pub").returncode == 4)
    text = work / "a.txt"
    text.write_text("text\n" * 50)
    check("a plain text has no place for a label", label("write", text, "--producer", CODE).returncode == 2)
    check("but for words", label("write", text, "--notice", "zh").returncode == 0 and label("check", text).returncode == 0)
    label("write", work / "a.md", "--producer", OTHER, "--notice", "zh")
    seen = json.loads(label("check", "--json", work / "a.md").stdout)
    check("a Markdown file has both", seen["verdict"] == "compliant" and seen["explicit"] is True)
    wrong = label("write", work / "a.json", "--producer", "001191110102MAD55U9H0G10002")
    check("a provider's code that does not check is refused", wrong.returncode == 2 and "does not check" in wrong.stderr)
    twice = work / "twice.json"
    twice.write_text('{"AIGC": %s, "AIGC": %s}' % ((json.dumps({f: "1" for f in FIELDS}),) * 2))
    answer = label("check", twice)
    check("two labels are one too many", answer.returncode == 4 and "noncompliant (the file has 2 labels)" in answer.stdout)
    # A text that unpacks to 200 times what a label may be read from.
    bomb = work / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)) +
                     chunk(b"iTXt", XMP.encode() + b"\0\1\0\0\0" + zlib.compress(bytes(200 << 20), 9)) + chunk(b"IEND", b""))
    answer = label("check", bomb)
    check("what unpacks without end is not unpacked", answer.returncode == 4 and "inconclusive" in answer.stdout)
    # What people see: a paragraph, and marks.
    with zipfile.ZipFile(work / "b.docx", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", f'<Types xmlns="{PACKAGE}content-types"/>')
        file.writestr("_rels/.rels", f'<Relationships xmlns="{PACKAGE}relationships"><Relationship Id="rId1" Type="{OFFICE}relationships/officeDocument" Target="word/document.xml"/></Relationships>')
        file.writestr("word/document.xml", "<w:document xmlns:w='urn:w'><w:body><w:p><w:r><w:t>text</w:t></w:r></w:p></w:body></w:document>")
    rows = b"".join(b"\0" + bytes([90, 120, 200]) * 320 for _ in range(200))
    (work / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 320, 200, 8, 2, 0, 0, 0)) +
                                 chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    (work / "b.pdf").write_bytes((work / "a.pdf").read_bytes())
    for name in ("b.docx", "b.pdf", "b.png"):
        bare = json.loads(label("check", "--json", work / name).stdout).get("explicit")
        done = label("write", work / name, "--producer", CODE, "--notice", "zh")
        if name == "b.png" and "built without" in done.stderr:
            print("skipped marks in pictures: built without libpng and libjpeg")
            continue
        seen = json.loads(label("check", "--json", work / name).stdout)
        check(f"{name}: readers are told, and machines", not bare and done.returncode == 0 and seen.get("explicit") is True and seen["verdict"] == "compliant")
        label("write", work / name, "--producer", CODE, "--notice", "zh", "-o", work / f"again-{name}")
        once = {"b.docx": lambda p: zipfile.ZipFile(p).read("word/document.xml").decode().count("人工智能"),
                "b.pdf": lambda p: p.read_bytes().count(b"\n/Span <</ActualText"), "b.png": lambda p: 1}[name]
        check(f"{name}: once", once(work / f"again-{name}") in (0, 1))
