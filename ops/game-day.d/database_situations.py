"""The situations that begin in the database; see situation.py."""

import os
import signal

from breakage import SmallDisk, wrong_clock
from servers import end, wait_until
from situation import situation


@situation("OutfallDatabaseGone", "the database server is stopped")
class DatabaseDown:
    def begin(here):
        here.postgres.stop()

    def mend(here, _):
        here.postgres.start()


@situation("OutfallDatabaseGone", "the database takes no writes: the address leads to a standby")
class DatabaseReadOnly:
    def begin(here):
        here.postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()")
        end_sessions(here)

    def mend(here, _):
        here.postgres.sql("SET default_transaction_read_only = off;"
                          "ALTER SYSTEM RESET default_transaction_read_only")
        here.postgres.sql("SELECT pg_reload_conf()")


def end_sessions(here):
    here.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'outfall'")


@situation("OutfallDatabaseGone", "the outbox was restored under another name")
class SchemaMissing:
    def begin(here):
        here.postgres.sql("ALTER SCHEMA outbox RENAME TO outbox_restored")
        end_sessions(here)

    def mend(here, _):
        here.postgres.sql("ALTER SCHEMA outbox_restored RENAME TO outbox")


@situation("OutfallDatabaseGone", "the database was migrated for the next version, which nobody has rolled out",
           factor=24)
class SchemaNewer:
    def begin(here):
        here.postgres.sql("INSERT INTO outbox.schema_version (version, name, min_worker)"
                          " VALUES (1000, '1000_next', 1000)")
        end_sessions(here)

    def mend(here, _):
        here.postgres.sql("DELETE FROM outbox.schema_version WHERE version = 1000")

    others = mend


@situation("OutfallDatabaseGone", "the password of outfall's role was changed, and the workers have the old one",
           factor=24)
class PasswordChanged:
    def begin(here):
        here.postgres.demand_password("outfall", "winter")
        end_sessions(here)

    def others(here, _):
        print("the new password is: winter", flush=True)

    def mend(here, _):
        here.worker.write(here.worker.configuration.replace("outfall:autumn@", "outfall:winter@"))
        here.worker.child.stop()
        here.worker.start()


@situation("OutfallDatabaseGone", "the application has taken all connections of the database", factor=24)
class NoConnectionsLeft:
    def prepare(here):
        here.postgres.sql("ALTER SYSTEM SET max_connections = 24")
        here.postgres.stop()
        here.postgres.start()

    def begin(here):
        taken = []

        def all_are_taken():
            taken.extend(here.postgres.session("shop") for _ in range(4))
            end_sessions(here)
            here.before_end(lambda sessions=tuple(taken): [end(one) for one in sessions])
            return len([one for one in taken if one.poll() is not None]) >= 8 and here.postgres.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'outfall'") == "0"
        wait_until(all_are_taken, "all connections to be taken")

    def mend(here, _):
        here.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'")


@situation("OutfallDatabaseGone", "the database server hangs and answers nobody (SIGSTOP)", factor=6)
class DatabaseHangs:
    def begin(here):
        hanging = here.postgres.processes()
        here.before_end(lambda: DatabaseHangs.go_on(hanging))
        for process in hanging:
            os.kill(process, signal.SIGSTOP)
        return hanging

    def go_on(hanging):
        for process in hanging:
            try:
                os.kill(process, signal.SIGCONT)
            except ProcessLookupError:
                pass  # it has ended

    def mend(here, hanging):
        DatabaseHangs.go_on(hanging)


@situation("OutfallBacklogUnseen", "a migration of the application has locked the outbox and waits for its author",
           factor=12, also=("OutfallDatabaseErrors",))
class OutboxLocked:
    def begin(here):
        session = here.postgres.session()
        session.stdin.write("BEGIN; LOCK TABLE outbox.entries;\n")
        session.stdin.flush()
        here.before_end(lambda: end(session))

    def mend(here, _):
        here.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")


@situation("OutfallBacklogUnseen", "somebody tidied up privileges, and outfall may not look at the backlog")
class SamplerWithoutRights:
    FUNCTION = "FUNCTION outbox.sample_streams(text[], bigint[], int, bigint[])"

    def begin(here):
        here.postgres.sql(f"REVOKE EXECUTE ON {SamplerWithoutRights.FUNCTION}"
                          " FROM outbox_worker, outbox_operator, outbox_reader, PUBLIC")

    def mend(here, _):
        here.postgres.sql(f"GRANT EXECUTE ON {SamplerWithoutRights.FUNCTION}"
                          " TO outbox_worker, outbox_operator, outbox_reader")


@situation("OutfallDatabaseErrors", "somebody tidied up privileges, and outfall may not settle",
           also=("OutfallNothingDelivered",))
class SettleWithoutRights:
    def begin(here):
        here.postgres.sql("REVOKE EXECUTE ON FUNCTION outbox.settle FROM outbox_worker, PUBLIC")

    def mend(here, _):
        here.postgres.sql("GRANT EXECUTE ON FUNCTION outbox.settle TO outbox_worker")


@situation("OutfallNothingDelivered", "the disk is full on which the database keeps the receipts", factor=24,
           also=("OutfallDatabaseErrors",))
class ReceiptsDiskFull:
    # Of all that a worker writes, receipts are what needs room at once: pages of the other tables get free again.
    MOVE = """DO $$ DECLARE v_part regclass; BEGIN
                FOR v_part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox.receipts'::regclass LOOP
                  EXECUTE format('ALTER TABLE %s SET TABLESPACE small', v_part);
                END LOOP;
              END $$"""

    def prepare(here):
        here.disk = SmallDisk(here.folder / "disk", here.postgres.user)
        here.after_end(here.disk.end)
        here.postgres.sql(f"CREATE TABLESPACE small LOCATION '{here.disk.folder}'")
        here.postgres.sql(ReceiptsDiskFull.MOVE)

    def begin(here):
        here.disk.fill()

    def mend(here, _):
        here.disk.make_room()


@situation("OutfallNothingDelivered", "somebody paused and resumed a stream in a psql, and has not committed that")
class PauseNotCommitted:
    def begin(here):
        session = here.postgres.session()
        session.stdin.write("BEGIN; SELECT outbox.pause_stream('orders', 'ana', 'deployment of the consumer');"
                            " SELECT outbox.resume_stream('orders', 'ana', 'the deployment is over');\n")
        session.stdin.flush()
        here.before_end(lambda: end(session))

    def mend(here, _):
        here.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")


@situation("OutfallOldTransaction", "somebody left a transaction open over lunch")
class OldTransaction:
    def begin(here):
        session = here.postgres.session()
        session.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.entries;\n")
        session.stdin.flush()
        return session

    def mend(here, session):
        here.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                          " WHERE state = 'idle in transaction' AND backend_xmin IS NOT NULL")
        end(session)


@situation("OutfallDeadTuples", "autovacuum was switched off for a migration and forgotten")
class NoVacuum:
    def begin(here):
        here.postgres.sql("ALTER TABLE outbox.entries SET (autovacuum_enabled = off)")
        # A fifth more than what the alert asks for.
        here.postgres.sql("BEGIN; SELECT count(outbox.enqueue('orders', 'order.placed', '{}'))"
                          f" FROM generate_series(1, {1_200_000 // here.factor}); ROLLBACK;")

    def mend(here, _):
        here.postgres.sql("ALTER TABLE outbox.entries RESET (autovacuum_enabled)")
        here.postgres.sql("VACUUM outbox.entries")


@situation("OutfallClockSkew", "the clock of the database's machine is ten minutes ahead", factor=24)
class WrongDatabaseClock:
    def begin(here):
        here.postgres.stop()
        here.postgres.start(environment=wrong_clock("+10m"))

    def mend(here, _):
        here.postgres.stop()
        here.postgres.start()
