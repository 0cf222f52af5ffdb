"""Unpack LightGBM's native code from its jar: `unpack_native.py JARS_FOLDER`, into its folder `native`.

Found on the library path, it is loaded once a process. SynapseML 1.1.3 else unpacks and loads another copy of it for
every fit and every scoring task, and never lets go of one: 7 MB of memory and 40 MB of /tmp a trial.
"""

import sys
from pathlib import Path
from zipfile import ZipFile

PLATFORM = "com/microsoft/ml/lightgbm/linux/x86_64/"

if __name__ == "__main__":
    jars = Path(sys.argv[1])
    [jar] = jars.glob("*lightgbmlib-*.jar")
    (jars / "native").mkdir(exist_ok=True)
    with ZipFile(jar) as archive:
        libraries = [name for name in archive.namelist() if name.startswith(PLATFORM) and name.endswith(".so")]
        if not libraries:
            sys.exit(f"{jar} holds no library below {PLATFORM}")
        for name in libraries:
            (jars / "native" / Path(name).name).write_bytes(archive.read(name))
