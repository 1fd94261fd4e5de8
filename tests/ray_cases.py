"""A cluster of two small nodes on this machine, for the tests with Ray."""

import faulthandler
import os

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
# Where the machine is busy, Ray is not to give up, or to start more processes instead.
for name, value in {
    "raylet_start_wait_time_s": 200,
    "worker_register_timeout_seconds": 600,
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 10,
}.items():
    os.environ.setdefault(f"RAY_{name}", str(value))

SECONDS = 1200


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with 100 MB of shared memory each; this process is their driver.

    Two processors each, by their word: tasks that read need a whole one of a node, which actors may
    not take up. What hangs ends after some minutes.
    """
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    faulthandler.dump_traceback_later(SECONDS, exit=True)
    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()
    faulthandler.cancel_dump_traceback_later()
