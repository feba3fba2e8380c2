"""An S3 server on loopback: moto's, one request at a time, since moto's conditional writes look first and write then."""

import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)
one = threading.Lock()


def application(environ, start_response):
    with one:
        return list(moto(environ, start_response))


run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
