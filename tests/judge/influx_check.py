"""Holds the InfluxDB fake against InfluxDB's official client.

Usage: influx_check.py URL TOKEN ORGANIZATION BUCKET
Prints one line for each check; exits with 1 at the first that fails.
"""

import sys
from importlib.metadata import version

from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

url, token, organization, bucket = sys.argv[1:5]


def check(what, holds):
    print(("ok     " if holds else "FAILED ") + what)
    if not holds:
        sys.exit(1)


def status(write, **arguments):
    try:
        write.write(**arguments)
    except ApiException as error:
        return error.status
    return 204


print(f"influxdb-client {version('influxdb-client')}")
for packed in (False, True):
    with InfluxDBClient(url=url, token=token, org=organization, enable_gzip=packed) as client:
        write = client.write_api(write_options=SYNCHRONOUS)
        point = (
            Point("my, m").tag("k,=", "v ,=").field("a b,c=d", 'say "hi" \\ x=1 ')
            .field("ok", True).field("n", -5.5).field("whole", 7).time(1795269600123456789, WritePrecision.NS)
        )
        check(f"a point, packed: {packed}", status(write, bucket=bucket, record=point) == 204)
        check("no such bucket", status(write, bucket="none", record=point) == 404)
        check("a broken line", status(write, bucket=bucket, record="m,tag= f=1 1") == 400)
        clash = Point("my, m").field("n", "text").time(1, WritePrecision.NS)
        check("a field of another type", status(write, bucket=bucket, record=clash) == 422)
with InfluxDBClient(url=url, token="wrong", org=organization) as client:
    check("a wrong token", status(client.write_api(write_options=SYNCHRONOUS), bucket=bucket, record=point) == 401)
