"""Passwords and a provider of logins through the whole program: cookies, a restart, hostile tokens, rotated keys; and the
administration on a port of its own. Usage: logins.py PROGRAM. The provider needs the library `cryptography`."""
import base64
import hashlib
import http.client
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from service import check, start_service, wait_for

program = sys.argv[1]
work = pathlib.Path(tempfile.mkdtemp(prefix="qw-login-"))


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    given = {"Content-Type": "application/json"} | (headers or {})
    connection.request(method, path, None if body is None else json.dumps(body), given)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def cookies_of(answer):
    return {c.split("=", 1)[0]: c.split("=", 1)[1].split(";", 1)[0] for c in answer.headers.get_all("Set-Cookie") or []}


def session_headers(cookies):
    return {"Cookie": "qw_session=" + cookies["qw_session"], "X-CSRF-Token": cookies["qw_csrf"]}


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


class Provider(http.server.ThreadingHTTPServer):
    """An OpenID Connect provider that lets in whom the test says, and lies when it is told to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.codes, self.claims, self.lie, self.key_fetches = {}, {}, None, 0
        self.rotate("first")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def rotate(self, name, kind="ES256"):
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        self.kid, self.kind = name, kind
        self.key = {"ES256": lambda: ec.generate_private_key(ec.SECP256R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate,
                    "RS256": lambda: rsa.generate_private_key(65537, 2048)}[kind]()

    def jwk(self):
        from cryptography.hazmat.primitives import serialization
        public, common = self.key.public_key(), {"kid": self.kid, "use": "sig", "alg": self.kind}
        if self.kind == "EdDSA":
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            return common | {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
        numbers = public.public_numbers()
        if self.kind == "ES256":
            return common | {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
        return common | {"kty": "RSA", "n": b64(numbers.n.to_bytes(256, "big")), "e": b64(numbers.e.to_bytes(3, "big"))}

    def token(self, asked):
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "qianwen", "nonce": asked["nonce"], "iat": now, "exp": now + 60} | self.claims
        head = {"alg": self.kind, "kid": self.kid}
        if self.lie == "none":
            return b64({"alg": "none", "kid": self.kid}) + "." + b64(claims) + "."
        if self.lie == "nonce":
            claims["nonce"] = "of another login"
        if self.lie == "audience":
            claims["aud"] = "another client"
        message = (b64(head) + "." + b64(claims)).encode()
        if self.kind == "EdDSA":
            signature = self.key.sign(message)
        elif self.kind == "RS256":
            signature = self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        if self.lie == "signature":
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        return message.decode() + "." + b64(signature)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def reply(self, status, body, headers=None):
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(text))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        at, query = urllib.parse.urlparse(self.path).path, dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))
        if at == "/.well-known/openid-configuration":
            i = self.server.issuer
            return self.reply(200, {"issuer": i, "authorization_endpoint": i + "/authorize", "token_endpoint": i + "/token", "jwks_uri": i + "/keys"})
        if at == "/keys":
            self.server.key_fetches += 1
            return self.reply(200, {"keys": [self.server.jwk()]})
        code = f"code-{len(self.server.codes)}"
        self.server.codes[code] = query
        back = query["redirect_uri"] + "?" + urllib.parse.urlencode({"code": code, "state": query["state"]})
        self.reply(303, {}, {"Location": back})

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        asked = self.server.codes.pop(form.get("code"), None)
        verified = asked and b64(hashlib.sha256(form["code_verifier"].encode()).digest()) == asked["code_challenge"]
        if not verified or form["redirect_uri"] != asked["redirect_uri"] or form.get("client_secret") != "its secret":
            return self.reply(400, {"error": "invalid_grant"})
        self.reply(200, {"access_token": "x", "token_type": "Bearer", "id_token": self.server.token(asked)})


def passwords():
    store, log = str(work / "a.db"), work / "a.log"
    server, port = start_service(program, log, "--store", store, "--admin-port", "0")
    admin_port = int(wait_for(log, "administration at").rsplit(":", 1)[1].split()[0])
    key = next(line.strip() for line in log.read_text().splitlines() if line.strip().startswith("sk-qw-"))
    bearer = {"Authorization": "Bearer " + key}
    check("the administration is not on the public port", ask(port, "GET", "/admin/v1/keys", headers=bearer)[0].status == 404)
    check("but on its own", ask(admin_port, "GET", "/admin/v1/keys", headers=bearer)[0].status == 200)
    ask(admin_port, "POST", "/admin/v1/users", {"organisation": "default", "name": "lin"}, bearer)
    subprocess.run([program, "admin", "user", "set", "lin", "--password-file", "-", "--store", store], input="three quiet rivers\n", text=True, check=True,
                   capture_output=True)
    listed = subprocess.run([program, "admin", "user", "list", "--json", "--store", store], capture_output=True, text=True, check=True).stdout
    _, routed = ask(admin_port, "GET", "/admin/v1/users", headers=bearer)
    check("command and route tell the same", json.loads(listed) == json.loads(routed)["data"] and len(json.loads(listed)) == 2)
    answer, _ = ask(port, "POST", "/auth/login", {"name": "lin", "password": "three quiet rivers"})
    cookies = cookies_of(answer)
    check("a password opens a session", answer.status == 200 and "HttpOnly" in answer.headers["Set-Cookie"])
    question = {"model": "mini", "prompt": "春", "max_tokens": 2}
    check("which may do what its user may", ask(port, "POST", "/v1/completions", question, session_headers(cookies))[0].status == 200)
    check("and nothing without its token", ask(port, "POST", "/v1/completions", question, {"Cookie": "qw_session=" + cookies["qw_session"]})[0].status == 403)
    server.kill()
    server.wait()
    server, port = start_service(program, work / "b.log", "--store", store)
    check("a session outlives a kill", ask(port, "GET", "/auth/session", headers=session_headers(cookies))[0].status == 200)
    texts = log.read_text() + (work / "b.log").read_text() + "".join(p.read_bytes().decode("latin1") for p in work.glob("a.db*"))
    check("neither log nor store holds a secret", "three quiet rivers" not in texts and cookies["qw_session"] not in texts and
          key not in (work / "b.log").read_text())
    server.terminate()
    server.wait(timeout=40)


def provider_login(port, provider, tamper=lambda url, cookie: (url, cookie)):
    """The way of a browser: to the provider and back. What the callback answers."""
    answer, text = ask(port, "GET", "/auth/oidc/login")
    if answer.status != 303:
        return answer, text
    cookie = answer.headers["Set-Cookie"].split(";", 1)[0]
    to = urllib.parse.urlparse(answer.headers["Location"])
    back, _ = ask(provider.server_port, "GET", to.path + "?" + to.query)
    url, cookie = tamper(urllib.parse.urlparse(back.headers["Location"]), cookie)
    return ask(port, "GET", url.path + "?" + url.query, headers={"Cookie": cookie})


def providers():
    provider = Provider()
    store, log = str(work / "c.db"), work / "c.log"
    server, port = start_service(program, log, "--store", store, "--oidc-issuer", provider.issuer, "--oidc-client-id", "qianwen", "--oidc-client-secret",
                                 "its secret", "--oidc-redirect", "http://127.0.0.1/auth/oidc/callback", "--oidc-role", "staff=member",
                                 "--oidc-role", "ops=owner", "--oidc-domain", "example.org")
    mei = {"sub": "7", "preferred_username": "mei", "email": "mei@example.org", "email_verified": True, "groups": ["staff", "football"]}
    provider.claims = mei
    answer, text = provider_login(port, provider)
    check("whom the provider lets in has a session", answer.status == 200 and "qw_session" in cookies_of(answer))
    headers = session_headers(cookies_of(answer))
    check("as a user of that name", json.loads(ask(port, "GET", "/auth/session", headers=headers)[1])["user"] == "mei")
    check("with the role of his group", ask(port, "GET", "/admin/v1/keys", headers=headers)[0].status == 403)
    provider.claims = mei | {"groups": "ops"}
    provider.rotate("second", "EdDSA")
    answer, _ = provider_login(port, provider)
    check("a key that was rotated is fetched", answer.status == 200 and provider.key_fetches == 2)
    provider.rotate("third", "RS256")
    answer, _ = provider_login(port, provider)
    check("but not more than once a minute", answer.status == 403 and provider.key_fetches == 2)
    server.terminate()
    server.wait(timeout=40)
    server, port = start_service(program, log, "--store", store, "--oidc-issuer", provider.issuer, "--oidc-client-id", "qianwen", "--oidc-client-secret",
                                 "its secret", "--oidc-redirect", "http://127.0.0.1/auth/oidc/callback", "--oidc-role", "staff=member",
                                 "--oidc-role", "ops=owner", "--oidc-domain", "example.org")
    answer, _ = provider_login(port, provider)
    check("the same person is the same user, with the role of now", answer.status == 200 and
          ask(port, "GET", "/admin/v1/keys", headers=session_headers(cookies_of(answer)))[0].status == 200)
    for lie in ("none", "nonce", "audience", "signature"):
        provider.lie = lie
        check(f"a token with a wrong {lie} lets nobody in", provider_login(port, provider)[0].status == 403)
    provider.lie = None
    for name, claims in {"another domain": mei | {"email": "mei@example.com"}, "an address that is not verified": mei | {"email_verified": False},
                         "no group": mei | {"groups": []}, "a name that is taken": mei | {"sub": "8", "preferred_username": "admin"},
                         "a token that has expired": mei | {"exp": int(time.time()) - 100}}.items():
        provider.claims = claims
        check(f"{name} lets nobody in", provider_login(port, provider)[0].status == 403)
    provider.claims = mei
    swap = lambda url, cookie: (url._replace(query=url.query.replace("state=", "state=x")), cookie)
    check("an answer with another state is refused", provider_login(port, provider, swap)[0].status == 403)
    check("an answer without the cookie is refused", provider_login(port, provider, lambda url, cookie: (url, "a=b"))[0].status == 403)
    check("codes are taken with their proof only", provider_login(port, provider, lambda url, cookie: (url, cookie + "x"))[0].status == 403)
    check("and all is well again", provider_login(port, provider)[0].status == 200)
    server.terminate()
    server.wait(timeout=40)


try:
    passwords()
    try:
        import cryptography  # noqa: F401
    except ImportError:
        print("skipped the provider of logins: the Python library cryptography is not installed")
    else:
        providers()
finally:
    shutil.rmtree(work, ignore_errors=True)
