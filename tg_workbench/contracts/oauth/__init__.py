"""OAuth 2: authorization code with PKCE, refresh, revocation, introspection and metadata.

QFLARE's document names the first two paths; the words are those of RFC 6749, 7636, 7009, 7662, 8414 and 9207.
There is no cookie anywhere: a person proves who they are on the consent page itself, so a page of another
site has nothing to ride on.

**Why** our own: the library for it sends a request's words back in its errors, and fails on some of them.

Pitfalls: what has to be committed although it is refused (a code or a token that came back) is refused after
the transaction, never inside it.
"""
