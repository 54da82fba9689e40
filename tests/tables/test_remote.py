"""Tables on object stores: what is read of them, and that nothing changes by it."""

from __future__ import annotations

import re
import threading
import warnings
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import polars as pl
import pytest

import connprops as cp
from connprops.errors import ConnpropsWarning, TableError
from connprops.tables.files import conditions

ENDS = {"source": "pre", "target": "post", "node_id": "id", "type": "cell_type"}
N, ROWS_OF_GROUP = 400_000, 40_000


@pytest.fixture(scope="module")
def tables():
    """Synapses, of which the sizes grow with the row, and the cells."""
    rng = np.random.default_rng(0)
    cells = 2**60 + rng.permutation(50)
    synapses = pl.DataFrame(
        {
            "pre": rng.choice(cells, N),
            "post": np.sort(rng.choice(cells, N)),
            "size": np.sort(rng.integers(0, N, N)),
            "area": rng.gamma(2.0, 3.0, N),
            "note": rng.random(N),
        }
    )
    return synapses, pl.DataFrame({"id": cells, "cell_type": rng.choice(["A", "B"], 50)})


@pytest.fixture(scope="module")
def store(tables, tmp_path_factory):
    """A server of S3 on this machine with the synapses in it; yields bytes sent, by method."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server_of = pytest.importorskip("moto.server")
        from werkzeug.serving import make_server
    import boto3

    sent = Counter()
    app = server_of.DomainDispatcherApplication(server_of.create_backend_app)

    def counted(environ, start_response):
        for piece in app(environ, start_response):
            sent[environ["REQUEST_METHOD"]] += len(piece)
            yield piece

    server = make_server("127.0.0.1", 0, counted, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    file = tmp_path_factory.mktemp("store") / "synapses.parquet"
    tables[0].write_parquet(file, row_group_size=ROWS_OF_GROUP, statistics=True)
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket="connectome")
    client.upload_file(str(file), "connectome", "synapses.parquet")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name.upper().replace("REGION_NAME", "AWS_REGION"), value)
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        yield sent, file.stat().st_size
    server.shutdown()
    thread.join()
    server.server_close()


def opened(place, cells, folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConnpropsWarning)
        return cp.open_table(place, cells, **ENDS, folder=folder, **options)


def test_only_wanted_columns_and_row_groups_are_fetched(tables, store, tmp_path):
    synapses, cells = tables
    sent, n_bytes = store
    bound = synapses["size"][-ROWS_OF_GROUP - 10]
    where = f"size >= {bound}"
    few = {"properties": ["area"], "where": where}
    before = sent["GET"]
    remote = opened("s3://connectome/synapses.parquet", cells, tmp_path / "few", **few)
    fetched = sent["GET"] - before
    assert 0 < fetched < n_bytes / 4
    local = opened(synapses, cells, tmp_path / "local", **few)
    names = ["source_node", "target_node", "area"]
    same = [ds.synapses.select(names).collect().sort(pl.all()) for ds in (remote, local)]
    assert same[0].equals(same[1])
    assert remote.manifest.left_out_rows == local.manifest.left_out_rows
    assert remote.n_synapses == synapses.filter(pl.col("size") >= bound).height
    before = sent["GET"]
    opened("s3://connectome/synapses.parquet", cells, tmp_path / "all")
    assert n_bytes * 0.9 < sent["GET"] - before < n_bytes * 1.5


@pytest.fixture
def website(tables, tmp_path):
    """A web server that sends ranges of a file of the synapses; yields its address, bytes sent."""
    file, sent = tmp_path / "synapses.parquet", Counter()
    tables[0].write_parquet(file, row_group_size=ROWS_OF_GROUP, statistics=True)
    data = file.read_bytes()

    class Ranges(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            asked = re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "bytes=0-"))
            first, last = (int(end) if end else None for end in asked.groups())
            if first is None:
                first, last = len(data) - last, None
            last = len(data) - 1 if last is None else min(last, len(data) - 1)
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 10:00:00 GMT")
            self.end_headers()
            return data[first : last + 1]

        def do_GET(self):
            sent["bytes"] += self.wfile.write(self.do_HEAD())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/synapses.parquet", sent, len(data)
        server.shutdown()
        thread.join()


def test_of_a_website_only_what_is_wanted_is_fetched(tables, website, tmp_path):
    synapses, cells = tables
    address, sent, n_bytes = website
    few = {"properties": ["area"], "where": f"size >= {synapses['size'][-ROWS_OF_GROUP - 10]}"}
    remote = opened(address, cells, tmp_path / "remote", **few)
    assert 0 < sent["bytes"] < n_bytes / 4
    local = opened(synapses, cells, tmp_path / "local", **few)
    same = [ds.synapses.select("area").collect().sort("area") for ds in (remote, local)]
    assert same[0].equals(same[1])


def test_what_is_not_there_is_one_error(tables, store, tmp_path):
    assert store
    with pytest.raises(TableError, match=r"s3://connectome/none\.parquet cannot be read"):
        opened("s3://connectome/none.parquet", tables[1], tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_only_what_all_rows_must_meet_is_pushed_to_the_reader():
    values = pl.DataFrame({"x": [-1.0, 0.0, 1.0, 2.0, None], "y": [1, 2, 3, 4, 5]})
    values = values.with_columns(z=pl.col("y").cast(pl.UInt8))

    def kept(where):
        return values.filter(*conditions(where, values.schema))["y"].to_list()

    assert kept("x > 0.5") == [3, 4]
    assert kept("x >= 0 AND y<4") == [2, 3, 4]  # bounds belong to what is kept
    assert kept("y = 2") == kept("z = 2") == [2]
    assert kept("z > -3.5 and z <= 3.5") == [1, 2, 3]
    assert kept("z > 1000") == []
    for other in (
        "x > 0 or y < 2 and y > 1",
        "not x > 0",
        "x between 1 and 2",
        "X > 0",
        "x + 1 > 2",
    ):
        assert conditions(other, values.schema) == []
