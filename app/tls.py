"""Why a connection by TLS was not made, for the log of whoever set the address."""

import ssl


def refusal(error: BaseException | None) -> str | None:
    """What TLS said, where `error` or what it came from is of TLS; else None.

    It may name the host, and holds nothing that was sent.
    """
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {error.reason or type(error).__name__}"
        error = error.__cause__ or error.__context__
    return None
