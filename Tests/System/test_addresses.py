"""Machines with several addresses and both versions of IP. 127.0.0.2 is the second address of the machine."""

from __future__ import annotations

import pytest

from harness import Agent, Gateway, Origin, eventually


@pytest.mark.parametrize("listen, dialed", [("0.0.0.0", "127.0.0.2"), ("[::]", "127.0.0.2"), ("[::]", "[::1]")])
def test_an_agent_attaches_at_any_address_of_the_machine(bench, listen: str, dialed: str):
    gateway = Gateway(bench)
    gateway.settings["https_listen"] = f"{listen}:{gateway.https_port}"
    gateway.write_config()
    token = gateway.create_token("demo", hosts=["app.localhost"])
    gateway.start()
    agent = Agent(bench, gateway, token, Origin(bench).port, hosts=["app.localhost"])
    agent.settings["gateways"] = [f"{dialed}:{gateway.https_port}"]
    agent.settings["server_name"] = "localhost"
    agent.write_config()
    agent.start(timeout=5)

    def attachments():
        return [line for line in gateway.process.log_objects() if line["msg"] == "agent attached"]

    [attached] = eventually(attachments, 5, "the gateway logs the agent")
    assert attached["remote"].startswith("[::1]:" if dialed == "[::1]" else "127.0.0.1:"), attached
    gateway.wait_serving("/headers")
    fields = gateway.request("GET", "/headers").body.decode().lower()
    assert "x-forwarded-for" in fields and "ffff" not in fields, fields
