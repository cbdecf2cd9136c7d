"""What CodeBuild does with a buildspec, without containers; and builds for the emulator's state machines.

    codebuild.py FILE

prints the shell script of a buildspec's phases. `run_builds` lets the emulator's Step Functions know
`codebuild:startBuild.sync`: the build's source is unpacked, its phases are run as a process with the credentials of the
project's role, and a state machine that is stopped stops it by SIGTERM; what StopBuild sends is not documented.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import yaml

PHASES = ("install", "pre_build", "build", "post_build")


def script(spec):
    """All commands of version 0.2 in one shell, one after the other, the build failed by the first that fails."""
    assert spec["version"] == 0.2 and spec["env"]["shell"] == "bash", spec["version"]
    lines = []
    for name, value in spec["env"].get("variables", {}).items():
        lines.append(f': "${{{name}={value}}}"; export {name}')
    # After a build that has failed comes its post_build, and after any other phase nothing.
    # Source: https://docs.aws.amazon.com/codebuild/latest/userguide/view-build-details-phases.html
    lines.append("failed=")
    for phase in PHASES:
        lines.append("ended=")
        for command in spec["phases"].get(phase, {}).get("commands", []):
            lines.append(f'if [ -z "$ended" ]; then {{\n{command}\n}} || ended={phase}; fi')
        lines.append(f'[ -z "$ended" ] || {{ echo "FAILED in {phase}"; failed=$ended; }}')
        if phase != "build":
            lines.append('[ -z "$ended" ] || exit 1')
    lines += [f'echo "EXPORTED {name}=${name}"' for name in spec["env"].get("exported-variables", [])]
    return "\n".join([*lines, '[ -z "$failed" ]', ""])


def run_builds(port):
    """Lets state machines start builds and wait for them."""
    import boto3
    import ministack.services.codebuild as codebuild
    import ministack.services.stepfunctions as stepfunctions
    import ministack.services.sts as sts
    from ministack.core.responses import get_region

    running, lock = set(), threading.Lock()
    endpoint = f"http://127.0.0.1:{port}"

    def session(role, build):
        """Credentials of the project's role, as CodeBuild assumes it."""
        keys = (sts._gen_session_access_key(), sts._gen_secret(), sts._gen_session_token())
        name, account = role.rsplit("/", 1)[-1], role.split(":")[4]
        sts.register_session(
            keys[0],
            {
                "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{build}",
                "UserId": f"{sts._role_id(role)}:{build}",
                "SecretAccessKey": keys[1],
                "SessionToken": keys[2],
                "Expiration": time.time() + 3600,
                "AccountId": account,
                "PrincipalType": "AssumedRole",
                "SourceAccessKeyId": "",
                "SourcePrincipalArn": "codebuild.amazonaws.com",
                "SessionTags": [],
                "SessionPolicies": None,
            },
        )
        return keys

    def start_build(resource, data):
        assert resource.endswith("codebuild:startBuild.sync"), resource
        project = codebuild._projects[data["ProjectName"]]
        record = codebuild._make_build_record(project, codebuild._build_id(project["name"]))
        build = record["id"].replace(":", "-")
        role, region = project["serviceRole"], get_region()
        key, secret, token = session(role, build)
        s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )

        def read(place):
            bucket, name = place.split("/", 1)
            return s3.get_object(Bucket=bucket, Key=name)["Body"].read()

        source = project["source"]
        assert data["SourceTypeOverride"] == "S3", data
        folder = Path(tempfile.mkdtemp(prefix="build-"))
        zipfile.ZipFile(io.BytesIO(read(data["SourceLocationOverride"]))).extractall(folder / "src")
        buildspec = (source.get("buildspec") or source.get("buildSpec")).split(":::", 1)[1]
        variables = {
            variable.get("name") or variable["Name"]: variable.get("value", variable.get("Value"))
            for variable in [*project["environment"]["environmentVariables"], *data["EnvironmentVariablesOverride"]]
        }
        tools = Path(sys.executable).parents[2] / "aws-cli/bin"
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "AWS_DEFAULT_REGION": region,
            "AWS_REGION": region,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_SESSION_TOKEN": token,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CODEBUILD_BUILD_ID": record["id"],
            "CODEBUILD_BUILD_NUMBER": str(record["buildNumber"]),
            "CODEBUILD_INITIATOR": "states/machines",
            "CODEBUILD_SRC_DIR": str(folder / "src"),
            **variables,
        }
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", script(yaml.safe_load(read(buildspec)))],
                cwd=folder / "src",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with lock:
                running.add(process.pid)
            status = "SUCCEEDED" if process.wait() == 0 else "FAILED"
            with lock:
                running.discard(process.pid)
        answer = {"Build": {"Id": record["id"], "BuildStatus": status, "Arn": record["arn"]}}
        if status != "SUCCEEDED":
            raise stepfunctions._ExecutionError("States.TaskFailed", json.dumps(answer))
        return answer

    stop_own = stepfunctions._stop_execution

    def stop(data):
        answer = stop_own(data)
        with lock:
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        return answer

    stepfunctions._stop_execution = stop
    stepfunctions._SERVICE_DISPATCH["arn:aws:states:::codebuild:startBuild"] = start_build


if __name__ == "__main__":
    print(script(yaml.safe_load(Path(sys.argv[1]).read_text())), end="")
