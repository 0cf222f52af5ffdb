"""Turn the certificate authorities of SSL_CERT_FILE into a trust store that Java reads."""

import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

# Java's own default. It guards nothing: the certificates of authorities are public.
PASSWORD = b"changeit"


def main() -> None:
    certificates = x509.load_pem_x509_certificates(Path(os.environ["SSL_CERT_FILE"]).read_bytes())
    entries = [pkcs12.PKCS12Certificate(certificate, None) for certificate in certificates]
    store = pkcs12.serialize_java_truststore(entries, BestAvailableEncryption(PASSWORD))
    Path(sys.argv[1]).write_bytes(store)


if __name__ == "__main__":
    main()
