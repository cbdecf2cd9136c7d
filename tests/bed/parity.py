"""Packages templates with the AWS CLI or the SAM CLI, and compares what came of it with Tenantry's.

    parity.py cli  BUCKET FOLDER...   with the AWS CLI's own Python
    parity.py sam  BUCKET FOLDER...   with the SAM CLI's own Python
    parity.py same FOLDER...          with the AWS CLI's own Python

Each folder has a `template.yaml` or `template.json`; the tool's result is written beside it as `theirs.yaml`.
`ours.txt` names the bucket and the key of Tenantry's. AWS's variables lead to the emulator.
"""

import contextlib
import io
import os
import subprocess
import sys
import urllib.parse
import zipfile


def template(folder):
    return next(name for name in ("template.yaml", "template.json") if os.path.exists(os.path.join(folder, name)))


def cli(bucket, folders):
    from awscli.clidriver import create_clidriver

    for folder in folders:
        os.chdir(folder)
        arguments = ["cloudformation", "package", "--template-file", template(folder), "--s3-bucket", bucket,
                     "--s3-prefix", "theirs", "--output-template-file", "theirs.yaml"]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = create_clidriver().main(arguments)
        if code:
            sys.exit(f"{folder}: {code}: {said.getvalue()}")


def sam(bucket, folders):
    for folder in folders:
        arguments = ["package", "--template-file", template(folder), "--s3-bucket", bucket, "--s3-prefix", "theirs",
                     "--output-template-file", "theirs.yaml", "--region", "eu-west-1"]
        program = os.path.join(os.path.dirname(sys.executable), "sam")
        ran = subprocess.run([program, *arguments], cwd=folder, env={**os.environ, "SAM_CLI_TELEMETRY": "0"},
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ran.returncode:
            sys.exit(f"{folder}: {ran.stdout}")


def same(folders):
    from awscli.botocore import session
    from awscli.customizations.cloudformation.yamlhelper import yaml_parse

    s3 = session.get_session().create_client("s3")

    def read(bucket, key):
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def content(bucket, key):
        body = read(bucket, key)
        if zipfile.is_zipfile(io.BytesIO(body)):
            archive = zipfile.ZipFile(io.BytesIO(body))
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        return body

    def place(value):
        """Returns what a value names in S3: its form, bucket and key."""
        if isinstance(value, dict):
            for bucket, key in (("S3Bucket", "S3Key"), ("Bucket", "Key")):
                if isinstance(value.get(bucket), str) and isinstance(value.get(key), str):
                    return (tuple(sorted(value)), value[bucket], value[key])
        if isinstance(value, str) and value.startswith("s3://"):
            return ("uri", *value[5:].split("/", 1))
        if isinstance(value, str) and value.startswith("http"):
            return ("url", *urllib.parse.urlparse(value).path[1:].split("/", 1))
        return None

    def compare(ours, theirs, where, found):
        if ours == theirs:
            return
        one, other = place(ours), place(theirs)
        if one and other:
            found.append(where)
            if one[0] != other[0]:
                sys.exit(f"{where}: the form is {one[0]}, and not {other[0]}")
            if one[0] == "url":
                compare(yaml_parse(read(*one[1:]).decode()), yaml_parse(read(*other[1:]).decode()), where + " >", found)
            elif content(*one[1:]) != content(*other[1:]):
                sys.exit(f"{where}: {content(*one[1:])} is not {content(*other[1:])}")
        elif isinstance(ours, dict) and isinstance(theirs, dict) and set(ours) == set(theirs):
            for key in ours:
                compare(ours[key], theirs[key], f"{where}.{key}", found)
        elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            for number, (one, other) in enumerate(zip(ours, theirs)):
                compare(one, other, f"{where}.{number}", found)
        else:
            sys.exit(f"{where}: {ours!r} is not {theirs!r}")

    def without_sam(value):
        """SAM adds the logical id to every resource's metadata."""
        if isinstance(value, dict):
            for resource in (value.get("Resources") or {}).values():
                if isinstance(resource, dict) and "SamResourceId" in resource.get("Metadata", {}):
                    del resource["Metadata"]["SamResourceId"]
                    if not resource["Metadata"]:
                        del resource["Metadata"]
        return value

    for folder in folders:
        with open(os.path.join(folder, "ours.txt")) as file:
            bucket, key = file.read().split()
        with open(os.path.join(folder, "theirs.yaml")) as file:
            theirs = without_sam(yaml_parse(file.read()))
        found = []
        compare(yaml_parse(read(bucket, key).decode()), theirs, os.path.basename(folder), found)
        print(os.path.basename(folder), len(found))


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    {"cli": lambda: cli(rest[0], rest[1:]), "sam": lambda: sam(rest[0], rest[1:]), "same": lambda: same(rest)}[what]()
