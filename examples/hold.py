#!/usr/bin/env python3
"""Hold a tokenward credential while a command runs, or while a Python program uses it.

What it does is the protocol of docs/locking.md, whose steps the comments name. It needs Python 3.9 on
Linux, and no package.

    hold.py alice -- ./sync.sh              # finds the token in $TOKENWARD_ACCESS_TOKEN

    from hold import Credential, in_cluster
    with Credential(in_cluster(), "alice").acquire(timeout=60) as hold:
        while not hold.draining:            # a refresh waits for us: come to an end
            call_the_api(hold.token, timeout=hold.remaining())

Exit status: the command's; 128 + N when signal N ended it; 126 or 127 when it cannot be run; 75 when the
credential was not acquired in time; 76 when the hold was lost and the command was killed; 66 when there
is no such credential; 77 when a right is missing; 1 when something else was wrong here.
"""

import argparse
import base64
import ctypes
import datetime
import email.utils
import http.client
import json
import os
import random
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

GROUP = "tokenward.dev"
DRIFT = 0.05  # how much faster or slower than true time a clock may run
STOP_EARLY = 0.2  # seconds before the deadline: what is killed needs a moment to be gone
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"


class HoldError(Exception):
    """Something is wrong that waiting does not mend."""
    status = 1


class NotFound(HoldError):  # There is no such credential.
    status = 66


class TimedOut(HoldError):  # It was not acquired in time; the text says what was waited for.
    status = 75


class Lost(HoldError):  # The hold is over, and its token must not be used any more.
    status = 76


class Forbidden(HoldError):  # A right is missing; the text says which.
    status = 77


class Unclear(Exception):
    """No clear answer came. A write may have been done, may still be done, or neither."""


class Api:
    """Requests to the API server. Each has a connection of its own: one that was kept may turn out to be
    closed only after a write was sent on it. None is repeated here."""

    def __init__(self, server, tls=None, token=lambda: None, namespace="default"):
        self.url, self.tls, self.token, self.namespace = urllib.parse.urlsplit(server), tls, token, namespace
        self.date = 0.0  # The API server's time of day, in its last answer.

    def call(self, method, path, body=None, content="application/json", timeout=5.0):
        """The status (200, 201, 404 or 409) and the object."""
        headers = {"Accept": "application/json", "Content-Type": content, "User-Agent": "hold.py"}
        if token := self.token():
            headers["Authorization"] = f"Bearer {token}"
        if self.url.scheme == "https":
            connection = http.client.HTTPSConnection(self.url.netloc, timeout=timeout, context=self.tls)
        else:
            connection = http.client.HTTPConnection(self.url.netloc, timeout=timeout)
        try:
            connection.request(method, self.url.path.rstrip("/") + path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            self.date = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
            status, answer = answer.status, json.loads(answer.read() or "{}")
        except (OSError, http.client.HTTPException, TypeError, ValueError) as error:
            raise Unclear(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if status == 429 or status >= 500:
            raise Unclear(f"{method} {path}: status {status}")
        if status not in (200, 201, 404, 409):
            refused = Forbidden if status == 403 else HoldError
            raise refused(f"{method} {path}: {answer.get('message', status)}")
        return status, answer


def in_cluster():
    """The API server as a pod sees it, as the pod's ServiceAccount."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise HoldError("this is no pod: say --kubeconfig or --server")
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    tls = ssl.create_default_context(cafile=SERVICE_ACCOUNT + "ca.crt")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    # The token is read each time, because kubelet replaces it.
    return Api(server, tls, lambda: content_of(SERVICE_ACCOUNT + "token"), content_of(SERVICE_ACCOUNT + "namespace"))


def from_kubeconfig(config):
    """The current context of `kubectl config view --raw --flatten -o json`, parsed."""

    def find(kind, name):
        return next((entry[kind] for entry in config[kind + "s"] or () if entry["name"] == name), {})

    context = find("context", config["current-context"])
    cluster, user = find("cluster", context["cluster"]), find("user", context["user"])
    if set(user) - {"token"}:
        raise HoldError("this kubeconfig has more than a token: run `kubectl proxy`, and say its --server")
    ca = base64.b64decode(cluster.get("certificate-authority-data", "")).decode()
    tls = ssl.create_default_context(cadata=ca or None)
    return Api(cluster["server"], tls, lambda: user.get("token"), context.get("namespace", "default"))


def content_of(file):
    with open(file, encoding="utf-8") as opened:
        return opened.read().strip()


def now():
    """This moment on two clocks: one that never jumps and counts suspended time, and the wall clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()


def elapsed(since):
    """How long ago that was, on whichever clock has gone further: a machine that was paused or restored
    must not take its hold for valid."""
    return max(present - past for present, past in zip(now(), since))


def timestamp():
    """A new value of renewTime. It is for people, but it must differ from the last: the API server does
    not store a PATCH that changes nothing."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Gate:
    """What a consumer reads on the gate. A gate that is not there, or has no phase, is closed."""

    def __init__(self, lease):
        notes = lease and lease["metadata"].get("annotations") or {}

        def number(name, fallback):
            found = notes.get(f"{GROUP}/{name}", "")
            return int(found) if found.isdecimal() else fallback

        self.phase = notes.get(f"{GROUP}/phase", "missing")
        self.open = self.phase == "Open"
        self.mode = notes.get(f"{GROUP}/mode", "Shared")
        self.holder = lease and lease["spec"].get("holderIdentity") or "nobody"
        self.generation = number("generation", 0)
        self.duration = number("hold-duration-seconds", 60)
        self.grace = number("drain-grace-seconds", 30)


class Credential:
    """One credential, as one user of it sees it."""

    def __init__(self, api, name, namespace=None):
        self.api, self.name, namespace = api, name, namespace or api.namespace
        self.leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._object = f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/integrationcredentials/{name}"
        self._owner, self._target, self._rejected, self._why = None, None, 0, "nothing yet"
        self._want, self._asked = f"{name}.want.{secrets.token_hex(8)}", False

    def acquire(self, timeout=300.0, mode=None, cancelled=lambda: False):
        """A Hold, once it can be had. `mode` insists on Shared or Exclusive; None takes what there is."""
        start = now()
        try:
            while not cancelled():
                try:
                    if hold := self._attempt(mode):
                        return hold
                except Unclear as error:
                    self._why = str(error)
                if elapsed(start) > timeout:
                    raise TimedOut(f"{self.name} was not acquired in {timeout:g} s: {self._why}{self._readiness()}")
                back = time.monotonic() + random.uniform(0.2, 1)  # Waiters must not come back all at once.
                while time.monotonic() < back and not cancelled():
                    time.sleep(0.05)
            raise HoldError("cancelled")
        finally:
            self._withdraw()

    def report_rejected(self, generation):
        """The API behind the credential refuses this generation of the token; nothing uses it any more.
        The next `acquire` waits for a newer one."""
        self._rejected = max(self._rejected, generation)
        self._ask_for_refresh(generation)

    def gate(self, timeout=5.0):
        # Without resourceVersion in the query the API server asks its quorum, and not its cache.
        status, lease = self.api.call("GET", f"{self.leases}/{self.name}.gate", timeout=timeout)
        return Gate(lease if status == 200 else None)

    def _attempt(self, mode):
        """Steps 0 to 6, once: a Hold, or None and the reason in `_why`."""
        gate, token = self.gate(), self._token()
        if gate.open and mode not in (None, gate.mode):
            raise HoldError(f"{self.name} has spec.lock.mode {gate.mode}, not {mode}")
        if token is None:  # Step 0.
            return self._not_yet("there is no token yet")
        if token["generation"] <= self._rejected or token["left"] < gate.duration / 2:
            self._ask_for_refresh(token["generation"])
            return self._not_yet(f"a token after generation {token['generation']} has been asked for")
        if not gate.open:  # Step 1.
            return self._not_yet(f"the gate is closed ({gate.phase}, held by {gate.holder})")
        hold = self._create(gate)  # Step 2.
        try:
            # Step 3. A look before the hold existed tells nothing: the gate may have been closed since,
            # by a writer that found no hold.
            seen = self.gate() if hold else gate
            if not hold or (seen.phase, seen.mode, seen.generation) != (gate.phase, gate.mode, gate.generation):
                return self._not_yet("the gate has just changed") if hold else None  # Step 4.
            hold.secret = self._token()  # Step 5.
            if not hold.secret or hold.secret["generation"] < gate.generation:
                return self._not_yet("TargetNotPublished: the Secret is behind the gate")
            if hold.draining or hold.remaining() < hold.duration / 3:  # Step 6.
                return self._not_yet("it took too long to acquire it")
            hold, kept = None, hold
            return kept
        finally:
            if hold:
                hold.release()

    def _create(self, gate):
        """Step 2. The nonce makes an unclear answer harmless: a hold that carries it is ours."""
        nonce = secrets.token_hex(8)
        name = f"{self.name}.hold." + ("exclusive" if gate.mode == "Exclusive" else nonce)
        identity = f"{socket.gethostname()}/{os.getpid()}/{nonce}"
        wanted = self._lease(name, "hold", gate.generation, identity, gate.duration)
        sent = now()
        while elapsed(sent) < gate.duration / 6:
            try:
                status, lease = self.api.call("POST", self.leases, wanted)
                if status == 409:
                    status, lease = self.api.call("GET", f"{self.leases}/{name}")
                    if status == 200 and lease["spec"]["holderIdentity"] != identity:
                        return self._not_yet(f"it is held by {lease['spec']['holderIdentity']}")
                if status in (200, 201):
                    return Hold(self, lease, sent)  # Valid from the first send, whichever of them did it.
            except Unclear as error:
                self._why = str(error)
            time.sleep(0.2)
        return None  # If it comes to be after all, nobody renews it, and the operator deletes it in time.

    def _ask_for_refresh(self, generation):
        """A want. 409: it is there already; the operator deletes it when there is a newer generation."""
        self._asked = True
        self.api.call("POST", self.leases, self._lease(self._want, "want", generation, self._want, 60))

    def _withdraw(self):
        """Nobody waits for the answer to the want any more. It would time out by itself, too."""
        try:
            if self._asked:
                self.api.call("DELETE", f"{self.leases}/{self._want}")
                self._asked = False
        except (Unclear, HoldError):
            pass

    def _lease(self, name, role, generation, identity, seconds):
        if self._owner is None:
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            _, review = self.api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
            user = review["status"]["userInfo"]
            self._owner = {f"{GROUP}/owner": user["username"]}
            for pod in user.get("extra", {}).get("authentication.kubernetes.io/pod-uid", ())[:1]:
                self._owner[f"{GROUP}/owner-pod-uid"] = pod
        labels = {f"{GROUP}/credential": self.name, f"{GROUP}/role": role}
        notes = {f"{GROUP}/generation": str(generation), **self._owner}
        spec = {"holderIdentity": identity, "leaseDurationSeconds": seconds,
                "acquireTime": timestamp(), "renewTime": timestamp()}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
                "metadata": {"name": name, "labels": labels, "annotations": notes}}

    def _token(self):
        """The token in the target Secret: its text, its generation, and for how many seconds it lives."""
        if self._target is None:
            status, credential = self.api.call("GET", self._object)
            if status == 404:
                raise NotFound(f"there is no IntegrationCredential {self.name}")
            named = [credential.get(part, {}).get("target", {}).get("name") for part in ("status", "spec")]
            self._target = named[0] or named[1] or self.name
        _, secret = self.api.call("GET", f"{self._secrets}/{self._target}")
        data = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
        if "access_token" not in data or not data.get("token_generation", "").isdecimal():
            return None
        left = float("inf")
        if "expires_at" in data:
            # By the API server's clock: if this machine's is wrong, no token would ever be good enough.
            expiry = datetime.datetime.fromisoformat(data["expires_at"].replace("Z", "+00:00"))
            left = expiry.timestamp() - self.api.date
        return {"access_token": data["access_token"], "generation": int(data["token_generation"]), "left": left}

    def _not_yet(self, why):
        self._why = why

    def _readiness(self):
        """What the operator says of the credential, for an error message."""
        try:
            conditions = self.api.call("GET", self._object)[1].get("status", {}).get("conditions", [])
        except (Unclear, HoldError):
            return ""
        return "".join(f"; Ready={c['status']}: {c.get('message')}" for c in conditions if c["type"] == "Ready")


class Hold:
    """A hold in use. A thread renews it; whether it still protects is computed at every look."""

    def __init__(self, credential, lease, sent):
        self.credential, self.secret, self.duration = credential, None, lease["spec"]["leaseDurationSeconds"]
        self._path = f"{credential.leases}/{lease['metadata']['name']}"
        self._meta, self._sent, self._why_lost = lease["metadata"], sent, None
        self._closed_since, self._newest, self._patience = None, 0, min(5.0, self.duration / 3)
        self._mutex, self._released = threading.Lock(), threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()

    @property
    def token(self):
        """The access token. Whatever is done with it has to end within `remaining()` seconds."""
        if self.lost:
            raise Lost(self.why_lost)
        return self.secret["access_token"]

    @property
    def generation(self):
        return self.secret["generation"]

    @property
    def draining(self):
        """Whether to come to an end and release: a refresh waits for this hold, or (where the old token
        survives a refresh) has not waited, and there is a newer token."""
        return self._closed_since is not None or self._newest > self.generation

    @property
    def lost(self):
        """Whether the token must not be used any more. Once true, it stays so."""
        return self.remaining() == 0

    @property
    def why_lost(self):
        return self._why_lost

    def remaining(self):
        """For how many seconds the token may be used if no renewal succeeds any more."""
        with self._mutex:
            return self._remaining()

    def release(self):
        """To be called when nothing uses the token any more."""
        self._released.set()
        self._lose("it was released")
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": self._meta["uid"]}}
        for pause in (0.2, 1, 0):
            try:
                self.credential.api.call("DELETE", self._path, body)  # 404 or 409: it is gone already.
                return
            except (Unclear, HoldError):
                time.sleep(pause)

    def report_rejected(self):
        """The API behind the credential refuses the token: ends the hold, and asks for another token."""
        self.release()
        self.credential.report_rejected(self.generation)

    def _remaining(self):
        left = self.duration * (1 - DRIFT) - STOP_EARLY - elapsed(self._sent)
        if left <= 0 and self._why_lost is None:
            late = "it was kept longer than the drain grace"
            self._why_lost = late if self._closed_since else "it could not be renewed in time"
        return 0 if self._why_lost else left

    def _lose(self, why):
        with self._mutex:
            self._why_lost = self._why_lost or why

    def _keep(self):
        # A watch of the gate would tell sooner, and ask less. A look every second is simpler.
        while not self._released.wait(min(1.0, self.duration / 12)) and not self.lost:
            try:
                gate = self.credential.gate(self._patience)  # No renewal without a look: it may be wanted back.
                self._newest = gate.generation
                self._closed_since = None if gate.open else self._closed_since or now()
                in_time = gate.open or elapsed(self._closed_since) < gate.grace
                if in_time and elapsed(self._sent) > self.duration / 3:
                    self._renew()
            except (Unclear, HoldError):
                pass  # The hold goes on until its own deadline.

    def _renew(self):
        old = {key: self._meta[key] for key in ("uid", "resourceVersion")}
        body, sent = {"metadata": old, "spec": {"renewTime": timestamp()}}, now()
        try:
            content = "application/merge-patch+json"
            status, lease = self.credential.api.call("PATCH", self._path, body, content, self._patience)
        except Unclear:
            status = 409  # Done or not: what it is now has to be looked up, too.
        if status != 200:
            status, lease = self.credential.api.call("GET", self._path, timeout=self._patience)
            if status == 404 or lease["metadata"]["uid"] != old["uid"]:
                return self._lose("somebody has deleted it")
        elif lease["metadata"]["resourceVersion"] != old["resourceVersion"]:
            with self._mutex:  # An answer after the deadline is too late, whatever it says.
                self._sent = sent if self._remaining() else self._sent
        self._meta = lease["metadata"]  # After a look: for the next PATCH. A look prolongs nothing.


def run(hold, command, drain_signal, signals):
    """Runs the command under the hold; `signals` collects those to pass on. The exit status."""
    libc = ctypes.CDLL(None)

    def tie():
        os.setpgid(0, 0)  # A group, so that no part of the command outlives the hold.
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nor the process that renews it.

    def kill(number):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            pass

    token = {"TOKENWARD_ACCESS_TOKEN": hold.token, "TOKENWARD_TOKEN_GENERATION": str(hold.generation)}
    try:
        child, told = subprocess.Popen(command, env={**os.environ, **token}, preexec_fn=tie), False
    except OSError as error:
        print(f"hold.py: {error}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    while True:
        try:
            status = child.wait(0.05)
            kill(signal.SIGKILL)  # What the command left behind.
            return status if status >= 0 else 128 - status
        except subprocess.TimeoutExpired:
            pass
        while signals:
            kill(signals.pop(0))
        if hold.lost:
            kill(signal.SIGKILL)
            child.wait()
            print(f"hold.py: the hold was lost: {hold.why_lost}", file=sys.stderr)
            return Lost.status
        if hold.draining and not told:
            kill(signal.Signals[f"SIG{drain_signal}"])
            told = True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the IntegrationCredential")
    parser.add_argument("-n", "--namespace")
    parser.add_argument("--mode", choices=["Shared", "Exclusive"], help="fail unless the credential has this mode")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="how long to wait (300)")
    parser.add_argument("--drain-signal", choices=["TERM", "INT", "HUP", "USR1", "USR2"], default="TERM",
                        help="tells the command that a refresh waits for it (TERM)")
    parser.add_argument("--kubeconfig", metavar="FILE", help="from: kubectl config view --raw --flatten -o json")
    parser.add_argument("--server", metavar="URL", help="of the API server, or of `kubectl proxy`")
    parser.add_argument("--token-file", metavar="FILE", help="with --server: what it accepts as bearer token")
    parser.add_argument("--ca", metavar="FILE", help="with --server: the CA of its certificate")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND")
    options = parser.parse_args()
    signals = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: signals.append(number))
    try:
        if options.server:
            tls = ssl.create_default_context(cafile=options.ca)
            api = Api(options.server, tls, lambda: options.token_file and content_of(options.token_file))
        elif options.kubeconfig:
            api = from_kubeconfig(json.loads(content_of(options.kubeconfig)))
        else:
            api = in_cluster()
        credential = Credential(api, options.name, options.namespace)
        with credential.acquire(options.timeout, options.mode, lambda: bool(signals)) as hold:
            return run(hold, options.command, options.drain_signal, signals)
    except (HoldError, Unclear, OSError) as error:
        if signals:
            return 128 + signals[0]
        print(f"hold.py: {error}", file=sys.stderr)
        return getattr(error, "status", 1)


if __name__ == "__main__":
    sys.exit(main())
