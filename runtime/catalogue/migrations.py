"""Migrations of the catalogue: the steps by which its tables were made, each of them run once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgesem.errors import InputError

if TYPE_CHECKING:
    from psycopg import Connection

_LOCK = 0x65646765
"""Of PostgreSQL's advisory locks: two receivers that start at once do not both make the tables."""
# A block has what a search reads, of 100 frames, within one page of 8 KiB: stored plain, it is read by one scan of the
# table. In values of any size (TOAST) the same bytes took half as long again.
_FIRST = """
create table edgesem.about (objects text not null);
create table edgesem.streams (id integer generated always as identity primary key, name text not null unique);
create table edgesem.segments (
  id bigint generated always as identity primary key,
  name text not null unique, size_bytes bigint not null, receiver text not null,
  added timestamptz not null default now()
);
create table edgesem.frames (
  stream integer not null references edgesem.streams, epoch bigint not null, frame bigint not null,
  time_ms bigint not null, captured_s double precision not null, layers smallint not null, size_bytes integer not null,
  bundle_id integer not null, promised boolean not null, grey boolean not null,
  segment bigint not null references edgesem.segments, start bigint not null,
  block bigint, place smallint, event bigint,
  primary key (stream, epoch, frame, time_ms)
);
create index on edgesem.frames (stream, captured_s);
create index on edgesem.frames (captured_s);
create index on edgesem.frames (segment);
create unique index on edgesem.frames (block, place) where block is not null;
create index on edgesem.frames (stream, captured_s) where block is null;
create table edgesem.blocks (
  id bigint generated always as identity primary key, receiver text not null,
  frames smallint not null, first_s double precision not null, last_s double precision not null,
  streams bytea not null, times bytea not null, scales bytea not null, embeddings bytea not null
);
alter table edgesem.blocks alter streams set storage plain, alter times set storage plain,
  alter scales set storage plain, alter embeddings set storage plain;
create index on edgesem.blocks (receiver, id);
create index on edgesem.blocks (last_s);
create index on edgesem.frames (stream, event) where event is not null;
create table edgesem.events (
  stream integer not null references edgesem.streams, event bigint not null, begun_s double precision not null,
  cause text not null, label text not null,
  primary key (stream, event)
);
create index on edgesem.events (begun_s);
"""
_STEPS = (_FIRST,)


def migrate(connection: Connection[Any]) -> None:
    """Run the steps that are missing, in the transaction of `connection`. InputError for tables of a later form."""
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    if connection.execute("select to_regclass('edgesem.version')").fetchone() == (None,):
        connection.execute("create schema if not exists edgesem")
        connection.execute("create table edgesem.version (steps integer not null)")
        connection.execute("insert into edgesem.version values (0)")
    done = _steps_done(connection)
    for step in _STEPS[done:]:
        connection.execute(step)
    if done < len(_STEPS):
        connection.execute("update edgesem.version set steps = %s", (len(_STEPS),))


def schema_version(connection: Connection[Any]) -> int:
    """Form of the tables. InputError if there are none, or of another form than is known here."""
    if connection.execute("select to_regclass('edgesem.version')").fetchone() == (None,):
        raise InputError("this database holds no catalogue: edgesem receive --catalogue makes it")
    done = _steps_done(connection)
    if done < len(_STEPS):
        raise InputError(f"the catalogue has form {done}, {len(_STEPS)} is needed: start a receiver of this version")
    return done


def _steps_done(connection: Connection[Any]) -> int:
    row = connection.execute("select max(steps) from edgesem.version").fetchone()
    done = row[0] if row else None
    if type(done) is not int or done < 0:
        raise InputError("the catalogue does not say which form it has")
    if done > len(_STEPS):
        raise InputError(f"the catalogue has form {done}, only {len(_STEPS)} is known here: update edgesem")
    return done
