#!/usr/bin/env bash
# Finding: canonical=True of cbor2 sorts map keys by the rule of 2013, not by the one of the current CBOR standard.
# Version: cbor2 6.3.0, PyNaCl 1.6.2 for the signature.
# Expected: the deterministic form of RFC 8949, section 4.2.1 (keys in the order of their encoded bytes), which replaced
#   the canonical form of RFC 7049 in 2020. There is one switch, and its help names no standard.
# Seen: shorter keys come first (the older rule). Maps whose keys are only text or only positive numbers come out the same
#   by both rules. With a negative key beside a key above 23 the bytes differ, so a signature over them fails.
# Meaning: a receiver in another language that packs the map again by the current rule rejects true pictures, but only
#   from the day a key such as -1 (usual in COSE) meets a key of 24 or more. Sign the bytes as sent; never pack again.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check cbor2==6.3.0 pynacl==1.6.2 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import cbor2
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

def core_deterministic(mapping):
    """A map of fewer than 24 small items by RFC 8949, section 4.2.1."""
    pairs = sorted((cbor2.dumps(key), cbor2.dumps(value)) for key, value in mapping.items())
    return bytes([0xA0 + len(pairs)]) + b"".join(key + value for key, value in pairs)

def accepted(mapping):
    """Does a signature over cbor2's form hold for a receiver that packs by the current rule?"""
    key = SigningKey(bytes(32))
    signature = key.sign(cbor2.dumps(mapping, canonical=True)).signature
    try:
        key.verify_key.verify(core_deterministic(mapping), signature)
        return True
    except BadSignatureError:
        return False

results = {}
for name, mapping in (("text keys", {"width": 640, "seq": 7, "at": 1}), ("small numbers", {1: 640, 23: 7, -1: 1}),
                      ("positive numbers", {1: 640, 100: 7, 24: 1}), ("100 and -1", {100: 7, -1: 1})):
    results[name] = accepted(mapping)
    print(f"{name:17} cbor2 {cbor2.dumps(mapping, canonical=True).hex()} current rule {core_deterministic(mapping).hex()}"
          f" signature holds: {results[name]}")
assert results == {"text keys": True, "small numbers": True, "positive numbers": True, "100 and -1": False}
assert cbor2.dumps({100: 7, -1: 1}, canonical=True).hex() == "a22001186407", "the order changed"
EOF
