"""Fail on published faults of what is installed: python .ci/audit.py PIP_AUDIT SITE_PACKAGES

pip-audit's own exit status does not tell: it is 0 where the index has no such data (then every package was
skipped), and 1 where there is no network as where a fault was found.
"""

import json
import subprocess
import sys


def main(program: str, site_packages: str) -> int:
    command = [program, "--format", "json", "--progress-spinner", "off", "--path", site_packages]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(finished.stdout)["dependencies"]
    except ValueError:
        if "ConnectionError" in finished.stderr or "may be blocking this service" in finished.stderr:
            return not_reached()
        print(finished.stderr, file=sys.stderr)
        return 2
    if not packages:
        print(f"Nothing is installed in {site_packages}.", file=sys.stderr)
        return 2
    looked_up = [package for package in packages if "vulns" in package]
    if not looked_up:
        return not_reached()
    skipped = [package["name"] for package in packages if "vulns" not in package]
    faults = [(package, fault) for package in looked_up for fault in package["vulns"]]
    for package, fault in faults:
        mended = " or ".join(fault["fix_versions"]) or "no release yet"
        print(
            f"{package['name']} {package['version']} has {fault['id']}, mended in {mended}.", file=sys.stderr
        )
    aside = f" Not on the index: {', '.join(skipped)}." if skipped else ""
    print(f"Published faults: {len(faults)}, in {len(looked_up)} packages looked up.{aside}")
    return 1 if faults else 0


def not_reached() -> int:
    print("Published faults: not looked up, the index's data about them cannot be reached from here.")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
