"""Google Cloud Storage on loopback, as far as its XML API is used: objects in memory, generations, listings, uploads
in parts. The packaged emulators speak the JSON API, which the program does not.

https://cloud.google.com/storage/docs/xml-api/overview
"""

import collections
import hashlib
import http.server
import itertools
import sys
import threading
import urllib.parse
import xml.etree.ElementTree as xml
from xml.sax.saxutils import escape

Object = collections.namedtuple("Object", "body generation tag")
MODIFIED = "2026-11-23T00:00:00.000Z"
PAGE = 1000

buckets = {name: {} for name in sys.argv[2:]}
uploads = {}
numbers = itertools.count(1)
one = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", headers=None, length=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        bucket, _, name = url.path.lstrip("/").partition("/")
        bucket, name = urllib.parse.unquote(bucket), urllib.parse.unquote(name)
        with one:
            if bucket not in buckets:
                return self.answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            objects = buckets[bucket]
            if not name:
                return self.answer(200, listing(objects, query))
            if "uploads" in query or "uploadId" in query:
                return self.upload(objects, name, query, body)
            return self.single(objects, name, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request

    def single(self, objects, name, body):
        there = objects.get(name)
        if self.command == "PUT":
            wanted = self.headers.get("x-goog-if-generation-match")
            if wanted is not None and int(wanted) != (there.generation if there else 0):
                return self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return self.answer(200, b"", facts(put(objects, name, body)))
        if there is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>" if self.command != "HEAD" else b"")
        if self.command == "DELETE":
            del objects[name]
            return self.answer(204)
        shown = b"" if self.command == "HEAD" else there.body
        return self.answer(200, shown, facts(there), len(there.body))

    def upload(self, objects, name, query, body):
        if "uploads" in query:
            upload = str(next(numbers))
            uploads[upload] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, text.encode())
        parts = uploads[query["uploadId"]]
        if self.command == "PUT":
            parts[int(query["partNumber"])] = body
            return self.answer(200, b"", {"ETag": tag(body)})
        del uploads[query["uploadId"]]
        if self.command == "DELETE":
            return self.answer(204)
        named = [int(n.text) for n in xml.fromstring(body).iter() if n.tag.endswith("PartNumber")]
        done = put(objects, name, b"".join(parts[n] for n in named))
        text = f"<CompleteMultipartUploadResult><ETag>{escape(done.tag)}</ETag></CompleteMultipartUploadResult>"
        return self.answer(200, text.encode(), facts(done))

    def log_message(self, *words):
        pass


def tag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


def put(objects, name, body):
    objects[name] = Object(body, next(numbers), tag(body))
    return objects[name]


def facts(o):
    return {"ETag": o.tag, "x-goog-generation": o.generation, "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT"}


def listing(objects, query):
    after = max(query.get("continuation-token", ""), query.get("start-after", ""))
    names = sorted(n for n in objects if n.startswith(query.get("prefix", "")) and n > after)
    page, rest = names[:PAGE], names[PAGE:]
    one_of = "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>"
    found = "".join(one_of.format(escape(n), MODIFIED, escape(objects[n].tag), len(objects[n].body)) for n in page)
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
    return f"<ListBucketResult>{found}{token}</ListBucketResult>".encode()


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
