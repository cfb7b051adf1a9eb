"""TCP only when asked for, and then only with TLS and a token."""
import json
import os
import socket
import ssl
import subprocess
import sys
import http.client

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import Plane, until  # noqa: E402


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", place / "key.pem", "-out", place / "cert.pem"],
                   check=True, capture_output=True, timeout=60)
    port = free_port()
    listen = {"address": "127.0.0.1", "port": port, "certificate": str(place / "cert.pem"), "key": str(place / "key.pem")}
    with Plane(config={"listen": [listen]}) as plane:
        plane.port, plane.certificate = port, place / "cert.pem"
        yield plane


def get(plane, path, token=None):
    context = ssl.create_default_context(cafile=plane.certificate)
    c = http.client.HTTPSConnection("localhost", plane.port, context=context, timeout=10)
    c.request("GET", path, headers={"Authorization": "Bearer " + token} if token else {})
    answer = c.getresponse()
    return answer.status, json.loads(answer.read())


def test_tls_serves_and_asks_for_a_token(secure):
    assert get(secure, "/healthz")[0] == 200
    assert get(secure, "/v1/agents")[0] == 401
    assert get(secure, "/v1/agents", "ict_wrong")[0] == 401
    assert get(secure, "/v1/whoami", secure.token)[1]["scope"] == "admin"


def test_plain_http_gets_nothing(secure):
    with socket.create_connection(("127.0.0.1", secure.port), timeout=10) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1" not in s.recv(1000)


def test_the_command_speaks_to_it(secure):
    done = secure.cli("token", "whoami", "--url", "https://localhost:%d" % secure.port, "--ca-file", str(secure.certificate))
    assert "admin" in done


def test_a_listener_survives_the_death_of_the_api_process(secure):
    secure.kill("api")
    until("the api serves again", lambda: serves(secure))


def serves(plane):
    try:
        return get(plane, "/healthz")[0] == 200
    except OSError:
        return False


def test_tcp_without_a_certificate_is_refused_with_one_sentence(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("listen:\n  - address: 127.0.0.1\n    port: 1\n")
    out = os.environ.get("IRONCLAW_OUT", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../out"))
    done = subprocess.run([os.path.join(out, "ironclaw"), "up", "--state-dir", tmp_path / "state", "--config", config],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and len(done.stderr.strip().splitlines()) == 1 and "certificate" in done.stderr
