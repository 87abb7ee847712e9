"""Starts it, says where it listens, and ends with standard input."""

import os
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application


class Handler(WSGIRequestHandler):
    # One thread serves, because the database in memory belongs to it: nobody may keep it for long.
    timeout = 5

    def get_environ(self):
        return {**super().get_environ(), "server.connection": self.connection}

    def log_message(self, *arguments):
        pass


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


os.environ["DJANGO_SETTINGS_MODULE"] = "server.settings"
threading.Thread(target=end_with_stdin, daemon=True).start()
django.setup()
call_command("migrate", run_syncdb=True, verbosity=0)
with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Handler) as server:
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
