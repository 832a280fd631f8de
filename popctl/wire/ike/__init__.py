"""IKE, versions 1 and 2, as far as a probe needs it: codecs and conversations without I/O.

`message` frames, `v1` and `v2` know the payloads, `dh`, `keys_v1` and `keys_v2` the cryptography, `identity` the names;
`liveness_v1`, `liveness_v2`, `deep_v1` and `deep_v2` are the probe conversations.
"""
