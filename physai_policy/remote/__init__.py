"""Policies on another machine: clients for openpi's, GR00T's and OpenVLA's servers, and a server that speaks openpi's protocol.

    wire      arrays in messages, decoded with limits
    stream    one TCP or TLS connection on which every wait ends at one deadline
    openpi · gr00t · openvla    what is said on it: one conversation each
    mapping   which key of a message is which quantity of ours
    config    the file that says where the server is
    client    `RemotePolicy`, which is a `Policy`
    server    `PolicyServer`, behind `physai serve`

Nothing here reads pickle: docs/howto/remote.md says what that leaves out.
"""
