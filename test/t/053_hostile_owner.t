# The application's role as an attacker: whatever it hangs on its own tables, it gains nothing by their being synced.
#
# Everywhere where PostgreSQL runs code of a table's owner, a function is planted that tries what an attacker would try, and
# logs as whom it ran and what it could do.  (It logs, because a table would forget what happened in a transaction
# that failed.)  It may run as the owner and do what the owner can do without us.  Where that cannot be had, because whoever
# reads the table would run it, the table is refused: nothing is sent until it is repaired and attached again.
#
# The tables of the application are looked at as their owner here, not as a superuser, who would be the victim himself.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

use constant SOON => 40;

my $t = PemsSync::Test->new('hostile_owner', settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1s' });
my $superuser = $t->sql('SELECT current_user');
my $fake      = $t->fake;
my $edits     = 0;
my $refusals  = 0;
my $position;

# ---------- roles ----------

# SQL as another role, which logs in: the session's user is that role.
sub as
{
    my ($role, $text, $database) = @_;
    local $ENV{PGOPTIONS} = '';
    return $t->node->safe_psql($database // 'postgres', $text, extra_params => [ '-U', $role ]);
}

sub error_as
{
    my ($role, $text, $database) = @_;
    local $ENV{PGOPTIONS} = '';
    my ($status, $out, $err) = $t->node->psql($database // 'postgres', "\\set VERBOSITY verbose\n$text", extra_params => [ '-U', $role ], on_error_stop => 0);
    return $err =~ /^(?:psql:\S+ )?ERROR:\s+(.*)/m ? $1 : '';
}

$t->add_organization('RIO');
$t->load('RIO', map { "PFA-$_" } 1 .. 40);
$t->sql(<<"SQL");
CREATE ROLE app LOGIN IN ROLE pems_sync_user;
CREATE ROLE manager LOGIN IN ROLE pems_sync_admin;
CREATE ROLE intruder LOGIN IN ROLE pems_sync_user;
GRANT CREATE ON SCHEMA public TO app;
CREATE SCHEMA hostile AUTHORIZATION app;
GRANT ALL ON SCHEMA hostile TO PUBLIC;
ALTER TABLE organization OWNER TO app;
ALTER TABLE pfa_mirror OWNER TO app;
ALTER TABLE pfa_modification OWNER TO app;
SQL

# ---------- the attack ----------

my $key_file = $t->key_file;
my @attempts = (
    # harmless, and possible wherever the function runs: so it is seen that it does try
    [ notify => 'NOTIFY hostile' ],
    [ read_credentials => 'SELECT FROM public.pems_credential' ],
    [ read_queue       => 'SELECT FROM public.pfa_write_queue' ],
    [ read_audit_log   => 'SELECT FROM public.pems_audit_log' ],
    [ forge_audit_log  => q{INSERT INTO public.pems_audit_log (event_type) VALUES ('FORGED')} ],
    [ change_queue     => q{UPDATE public.pfa_write_queue SET priority = 10} ],
    [ change_catalogue => q{UPDATE public.pems_field SET writable = true} ],
    [ become_worker    => 'SET ROLE pems_sync_worker' ],
    [ become_worker_by_setting => q{SELECT set_config('role', 'pems_sync_worker', false)} ],
    [ become_superuser => "SET ROLE $superuser" ],
    [ become_session   => 'SET SESSION AUTHORIZATION DEFAULT; SELECT 1 / rolsuper::integer FROM pg_roles WHERE rolname = current_user' ],
    [ become_other     => "SET SESSION AUTHORIZATION $superuser" ],
    [ reset_role       => 'RESET ROLE; SELECT 1 / rolsuper::integer FROM pg_roles WHERE rolname = current_user' ],
    [ join_worker      => 'GRANT pems_sync_worker TO app' ],
    [ make_role        => 'CREATE ROLE planted SUPERUSER' ],
    [ run_program      => q{COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'} ],
    [ read_key_file    => "SELECT pg_read_file('$key_file')" ],
    [ change_setting   => q{SELECT set_config('log_statement', 'none', false)} ],
    [ change_system    => q{ALTER SYSTEM SET log_statement = 'none'} ],
    [ stop_worker      => 'SELECT 1 / pg_terminate_backend(pid)::integer FROM public.pems_worker' ],
    [ take_function    => 'ALTER FUNCTION public.pems_validate(jsonb, jsonb) OWNER TO app' ],
    [ hook_queue       => 'CREATE TRIGGER planted BEFORE INSERT ON public.pfa_write_queue FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()' ]);
my $attempts = JSON::PP->new->encode(\@attempts);

my $attack = <<"SQL";
CREATE FUNCTION hostile.attack(place text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS \$\$
DECLARE
    me   text := current_user;
    try  jsonb;
    part text;
    done text := '';
BEGIN
    FOR try IN SELECT jsonb_array_elements(\$try\$$attempts\$try\$) LOOP
        BEGIN
            FOREACH part IN ARRAY string_to_array(try ->> 1, '; ') LOOP
                EXECUTE part;
            END LOOP;
            done := concat_ws(' ', nullif(done, ''), try ->> 0);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    RAISE LOG 'attack [%] as [%] of [%]: [%]', place, me, session_user, done;
    RETURN place;
END
\$\$;
-- where PostgreSQL wants to be told that it can be evaluated beforehand
CREATE FUNCTION hostile.immutable(place text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS \$\$ BEGIN RETURN hostile.attack(place); END \$\$;
CREATE FUNCTION hostile.trigger() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM hostile.attack(concat_ws(' ', TG_TABLE_NAME, TG_ARGV[0]));
    RETURN NEW;
END
\$\$;
SQL
as('app', $attack);

# The attacks that were logged since the last look: [{ place, as, of, did }].
sub attacks
{
    my $log = $t->log_since($position);
    $position = $t->log_position;
    my @attacks;
    while ($log =~ /LOG:  attack \[([^]]*)\] as \[([^]]*)\] of \[([^]]*)\]: \[([^]]*)\]/g)
    {
        push @attacks, { place => $1, as => $2, of => $3, did => $4 };
    }
    return @attacks;
}

# One test each: the planted function ran in just these places ("place: worker manager app", by whose session), or nowhere; as the owner;
# and could do nothing that the owner cannot do anyway.
sub gains_nothing
{
    my ($name, %places) = @_;
    my (%seen, @others, @gains);
    for my $attack (attacks())
    {
        my $through = $attack->{of} eq $superuser ? 'worker' : $attack->{of};
        $seen{ $attack->{place} }{$through} = 1;
        push @others, "$attack->{place}: $attack->{as}" if $attack->{as} ne 'app';
        push @gains, "$attack->{place}: $attack->{did}" if $attack->{did} ne 'notify';
    }
    my %found = map { $_ => join ' ', sort keys %{ $seen{$_} } } keys %seen;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply(\%found, \%places, "$name: where the planted function ran, and through whom");
    is("@others", '', "$name: it ran as the owner of the table only");
    is("@gains", '', "$name: and could do nothing that the owner could not");
    return;
}

# ---------- edits, as the application makes them ----------

sub draft_statement
{
    my ($pfa_id, $rate) = @_;
    my $id = sprintf 'h-%04d', ++$edits;
    return ($id, "INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) "
          . "SELECT '$id', organization_id, pfa_id, version, '{\"monthlyRate\": $rate}', 'mallory' FROM pfa_mirror WHERE pfa_id = '$pfa_id';");
}

sub draft
{
    my ($id, $statement) = draft_statement(@_);
    as('app', $statement);
    return $id;
}

sub commit_statement  { my ($id) = @_; return "SELECT pems_commit('org-rio', ARRAY['$id']);" }
sub discard_statement { my ($id) = @_; return "SELECT pems_discard('$id');" }

sub commit_edit
{
    my $id = draft(@_);
    as('app', commit_statement($id));
    return $id;
}

# By the queue, which is ours.
sub ends_as
{
    my ($id, $status, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($t->wait_until(sub { ($t->item($id) // {})->{status} eq $status }, what => "$id $status", timeout => SOON), $name)
      || diag(JSON::PP->new->encode($t->item($id)));
}

sub sync_status { my ($id) = @_; return as('app', "SELECT sync_status FROM pfa_modification WHERE id = '$id'") }

# An edit in conflict; returns it and its conflict.
sub conflict
{
    my ($pfa_id) = @_;
    my $id = draft($pfa_id, 100);
    $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, version => 2, data => PemsSync::Test::record_data($pfa_id, monthlyRate => 200) });
    as('app', commit_statement($id));
    ends_as($id, 'conflict', "$pfa_id: an edit in conflict");
    return ($id, $t->conflict($id)->{id});
}

# ---------- what runs when the tables are written ----------

$position = $t->log_position;
as('app', q{SELECT hostile.attack('himself')});
gains_nothing('what the owner can do without us', himself => 'app');
# that the attempts are real ones: a superuser succeeds with each, but for ALTER SYSTEM, which no function may
$t->sql(q{BEGIN; SELECT hostile.attack('control'); ROLLBACK});
my ($control) = attacks();
is($control->{did}, join(' ', grep { $_ ne 'change_system' } map { $_->[0] } @attempts), 'what a superuser can do');
ok($t->wait_worker, 'the worker runs again');

for my $table (qw(pfa_mirror pfa_modification))
{
    as('app', <<"SQL");
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON $table FOR EACH ROW EXECUTE FUNCTION hostile.trigger('before row');
CREATE TRIGGER after_row AFTER INSERT OR UPDATE ON $table FOR EACH ROW EXECUTE FUNCTION hostile.trigger('after row');
CREATE TRIGGER before_statement BEFORE INSERT OR UPDATE ON $table FOR EACH STATEMENT EXECUTE FUNCTION hostile.trigger('before statement');
CREATE TRIGGER after_statement AFTER INSERT OR UPDATE ON $table FOR EACH STATEMENT EXECUTE FUNCTION hostile.trigger('after statement');
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT OR UPDATE ON $table DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hostile.trigger('deferred');
ALTER TABLE $table ADD hostile_default text;
ALTER TABLE $table ALTER hostile_default SET DEFAULT hostile.attack('$table default');
ALTER TABLE $table ADD hostile_generated text GENERATED ALWAYS AS (hostile.immutable('$table generated column')) STORED;
ALTER TABLE $table ADD CONSTRAINT hostile_check CHECK (hostile.attack('$table check') IS NOT NULL) NOT VALID;
CREATE POLICY hostile_policy ON $table USING (hostile.attack('$table policy') IS NOT NULL);
ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
SQL
}
as('app', <<'SQL');
CREATE TABLE hostile.ruled (by text);
CREATE RULE hostile_rule AS ON UPDATE TO pfa_modification DO ALSO INSERT INTO hostile.ruled SELECT hostile.attack('pfa_modification rule');
SQL

# The places where code of the owner runs when a row of a table is changed, and those of INSERT in addition.
my @changed = ('before row', 'after row', 'before statement', 'after statement', 'deferred', 'generated column', 'check');
sub places { my ($table, $through, @more) = @_; return map { ("$table $_" => $through) } @changed, @more }

my $discarded = draft('PFA-1', 1);
my $synced    = draft('PFA-2', 2);
attacks();
as('app', commit_statement($synced));
ends_as($synced, 'completed', 'an edit is synced whatever runs when its tables are written');
is(sync_status($synced), 'synced', 'and so is its modification');
gains_nothing('pems_commit(), and the worker', places('pfa_modification', 'app worker', 'rule'), places('pfa_mirror', 'worker'));

as('app', discard_statement($discarded));
is(sync_status($discarded), 'discarded', 'pems_discard() works');
gains_nothing('pems_discard()', places('pfa_modification', 'app', 'rule'));

my ($resolved, $conflict) = conflict('PFA-3');
attacks();
as('app', "SELECT pems_resolve_conflict('$conflict', 'use_pems')");
is(sync_status($resolved), 'superseded', 'pems_resolve_conflict() works');
gains_nothing('pems_resolve_conflict()', places('pfa_modification', 'app', 'rule'));

# what we insert: a rollback's modification, and a mirror that is missing
as('manager', q{SELECT pems_rollback('org-rio', 'PFA-2', 1, 'why')});
ok($t->wait_for(q{SELECT count(*) = 2 FROM pfa_write_queue WHERE pfa_id = 'PFA-2' AND status = 'completed'}), 'a rollback is synced');
gains_nothing('pems_rollback()', places('pfa_modification', 'manager worker', 'rule'), 'pfa_modification default' => 'manager', places('pfa_mirror', 'worker'));

$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now');
my $missing = commit_edit('PFA-4', 4);
as('app', q{DELETE FROM pfa_mirror WHERE pfa_id = 'PFA-4'});
attacks();
$t->set(enabled => 'on');
ends_as($missing, 'completed', 'an edit whose mirror is missing is synced');
gains_nothing('a mirror is inserted', places('pfa_modification', 'worker', 'rule'), places('pfa_mirror', 'worker', 'default'));

# ---------- deferred constraints in the user's own transaction ----------

for my $table (qw(pfa_mirror pfa_modification))
{
    as('app', <<"SQL");
DROP TRIGGER before_row ON $table; DROP TRIGGER after_row ON $table; DROP TRIGGER before_statement ON $table; DROP TRIGGER after_statement ON $table;
ALTER TABLE $table DROP CONSTRAINT hostile_check, DROP hostile_default, DROP hostile_generated, DISABLE ROW LEVEL SECURITY;
DROP POLICY hostile_policy ON $table;
SQL
}
as('app', <<'SQL');
DROP RULE hostile_rule ON pfa_modification;
CREATE TABLE hostile.author (name text PRIMARY KEY);
INSERT INTO hostile.author SELECT DISTINCT created_by FROM pfa_modification;
ALTER TABLE pfa_modification ADD CONSTRAINT author FOREIGN KEY (created_by) REFERENCES hostile.author (name) DEFERRABLE INITIALLY DEFERRED;
SQL
attacks();
my ($own, $insert) = draft_statement('PFA-5', 5);
$insert =~ s/mallory/eve/;
as('app', "BEGIN; $insert INSERT INTO hostile.author VALUES ('eve'); " . commit_statement($own) . ' COMMIT;');
ends_as($own, 'completed', 'draft and pems_commit() in one transaction, with a deferred foreign key: synced');
gains_nothing('deferred, in a transaction of the user', 'pfa_modification deferred' => 'app worker', 'pfa_mirror deferred' => 'worker');
my ($early, $too_early) = draft_statement('PFA-33', 33);
$too_early =~ s/mallory/nobody/;
like(error_as('app', "BEGIN; $too_early " . commit_statement($early) . q{INSERT INTO hostile.author VALUES ('nobody'); COMMIT;}), qr/^23503: /,
    'what the draft refers to must be there when pems_commit() is called');
ok(!defined $t->item($early), 'and nothing is queued otherwise');

# Another role has a table with a constraint of the same name in that schema.
$t->sql('GRANT CREATE ON SCHEMA public TO intruder');
as('intruder', <<'SQL');
CREATE TABLE public.trap (place text);
CREATE FUNCTION hostile.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.attack(NEW.place); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON public.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hostile.trap();
CREATE TABLE public.parted (place text) PARTITION BY LIST (place);
CREATE TABLE hostile.part PARTITION OF public.parted DEFAULT;
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON public.parted DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hostile.trap();
SQL
my ($trapped, $trapped_too) = (draft('PFA-35', 35), draft('PFA-36', 36));
attacks();
for my $call (commit_statement($trapped), discard_statement($trapped_too))
{
    for my $table (qw(trap parted))
    {
        like(error_as('intruder', "BEGIN; INSERT INTO $table VALUES ('$table'); $call COMMIT;"), qr/^55000: constraint "deferred" of table "pfa_modification" cannot be checked now/,
            "$call is refused where it would fire the trigger of another role's table $table");
    }
}
gains_nothing('a namesake of a constraint');
as('intruder', commit_statement($trapped));
as('app', "BEGIN; UPDATE pfa_mirror SET last_synced_at = now() WHERE pfa_id = 'PFA-36'; " . commit_statement($trapped_too) . ' COMMIT;');
ends_as($_, 'completed', 'the namesake of a table that was not changed, or that we write anyway, is in nobody\'s way') for $trapped, $trapped_too;
as('intruder', 'DROP TABLE trap, parted');
attacks();
as('app', 'DROP TRIGGER deferred ON pfa_modification; DROP TRIGGER deferred ON pfa_mirror; '
      . 'ALTER TABLE pfa_modification ALTER CONSTRAINT author DEFERRABLE INITIALLY IMMEDIATE');
my ($by_choice, $later) = draft_statement('PFA-34', 34);
as('app', "BEGIN; SET CONSTRAINTS ALL DEFERRED; $later " . commit_statement($by_choice) . ' COMMIT;');
ends_as($by_choice, 'completed', 'with a foreign key that the user has deferred: synced');
as('app', 'ALTER TABLE pfa_modification DROP CONSTRAINT author');

# ---------- what would run when the tables are read: refused ----------

# While an edit waits, the owner changes a table; nothing is sent, and everybody says why; he repairs it, and an
# administrator attaches it again.  Not in between: what would run then would run as a superuser.
sub refused
{
    my ($name, $break, $repair, $problem) = @_;
    my $pfa_id = 'PFA-' . (++$refusals + 10);
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), "$name: nothing is sent for now");
    my $waiting = commit_edit($pfa_id, 1);
    my $draft   = draft($pfa_id, 2);
    as('app', $break);
    attacks();
    my $requests = $fake->requests;
    $t->set(enabled => 'on');

    ok($t->wait_worker(state => 'not_attached'), "$name: the worker is not_attached");
    for my $call (commit_statement($draft), discard_statement($draft), "SELECT pems_resolve_conflict('$conflict', 'use_pems')",
        q{SELECT pems_sync_state('org-rio', ARRAY['PFA-1'])}, q{SELECT pems_sync_status('org-rio', 'pending')})
    {
        like(error_as('app', $call), qr/^55000: pems_sync is not attached/, "$name: $call");
    }
    like(error_as('manager', 'SELECT pems_attach()'), qr/^55000: /, "$name: pems_attach() refuses it");
    like(error_as('manager', 'SELECT pems_resume()'), qr/^55000: /, "$name: and so does pems_resume()");
    my $health = JSON::PP->new->decode(as('app', 'SELECT pems_health()'));
    is($health->{status}, 'down', "$name: pems_health() says down");
    like(join("\n", @{ $health->{problems} }), $problem, "$name: and why");
    is($fake->requests, $requests, "$name: nothing was sent");
    gains_nothing($name);

    as('app', $repair);
    as('manager', 'SELECT pems_attach()');
    ends_as($waiting, 'completed', "$name: repaired and attached again, it goes on");
    is($fake->record('RIO', $pfa_id)->{version}, 2, "$name: with one write");
    attacks();
    return;
}

refused('an index that calls a function of his',
    q{CREATE INDEX hostile_index ON pfa_modification ((id || hostile.immutable('index')))},
    'DROP INDEX hostile_index', qr/index hostile_index of pfa_modification uses function hostile\.immutable\(pg_catalog\.text\)/);
refused('the condition of an index',
    q{CREATE INDEX hostile_index ON organization (name) WHERE hostile.immutable('condition') = 'condition'},
    'DROP INDEX hostile_index', qr/index hostile_index of organization uses function hostile\.immutable\(pg_catalog\.text\)/);
refused('extended statistics that call a function of his',
    q{CREATE STATISTICS hostile_statistics ON (pfa_id || hostile.immutable('statistics')), version FROM pfa_mirror},
    'DROP STATISTICS hostile_statistics', qr/statistics hostile_statistics of pfa_mirror uses function hostile\.immutable\(pg_catalog\.text\)/);
my $type = <<'SQL';
CREATE FUNCTION hostile.checks(value text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.attack('domain'); RETURN true; END $$;
CREATE DOMAIN hostile.checked AS text CHECK (hostile.checks(VALUE));
CREATE TYPE hostile.record AS (value hostile.checked);
SQL
as('app', $type . 'CREATE OPERATOR hostile.@@@ (RIGHTARG = text, FUNCTION = pg_catalog.upper)');
refused('an index on a type of his',
    q{CREATE INDEX hostile_index ON pfa_mirror ((pfa_id::hostile.checked IS NULL))},
    'DROP INDEX hostile_index', qr/index hostile_index of pfa_mirror uses type hostile\.checked/);
refused('an index on an operator of his, whose function is PostgreSQL\'s',
    q{CREATE INDEX hostile_index ON pfa_mirror ((OPERATOR(hostile.@@@) pfa_id))},
    'DROP INDEX hostile_index', qr/index hostile_index of pfa_mirror uses operator hostile\.@@@/);

# A function of a superuser, which makes a value of a type of his: the domain calls his function.
my $has_hstore = $t->sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'hstore'});
my $typed      = q{CREATE INDEX hostile_index ON pfa_mirror ((hostile.hstore(hostile.populate_record(NULL::hostile.record, 'value=>x'::hostile.hstore))))};
SKIP:
{
    skip 'hstore is not installed', 1 unless $has_hstore;
    $t->sql('CREATE EXTENSION hstore SCHEMA hostile');
    refused('an index on a function of a superuser that makes a value of a type of his', $typed, 'DROP INDEX hostile_index',
        qr/index hostile_index of pfa_mirror uses function hostile\.populate_record\(pg_catalog\.anyelement,hostile\.hstore\)/);
}
refused('a child table',
    q{CREATE TABLE hostile.child (CHECK (hostile.immutable('child') IS NOT NULL)) INHERITS (pfa_mirror); CREATE INDEX ON hostile.child ((hostile.immutable('child index')))},
    'DROP TABLE hostile.child', qr/pfa_mirror has child tables/);
refused('row level security that binds its owner',
    q{CREATE POLICY hostile_policy ON pfa_modification USING (hostile.attack('policy') IS NOT NULL); ALTER TABLE pfa_modification ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY},
    'ALTER TABLE pfa_modification NO FORCE ROW LEVEL SECURITY; DROP POLICY hostile_policy ON pfa_modification; ALTER TABLE pfa_modification DISABLE ROW LEVEL SECURITY',
    qr/pfa_modification has FORCE ROW LEVEL SECURITY/);
as('app', <<'SQL');
CREATE TYPE hostile.state AS ENUM ('draft', 'queued', 'syncing', 'synced', 'conflict', 'failed', 'superseded', 'discarded');
CREATE FUNCTION hostile.cast(hostile.state) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.attack('cast'); RETURN enum_out($1); END $$;
CREATE CAST (hostile.state AS text) WITH FUNCTION hostile.cast(hostile.state) AS IMPLICIT;
CREATE TYPE hostile.pair AS (a text, b text);
CREATE FUNCTION hostile.cast(hostile.pair) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.attack('cast of a composite type'); RETURN ($1).a; END $$;
CREATE CAST (hostile.pair AS text) WITH FUNCTION hostile.cast(hostile.pair) AS IMPLICIT;
SQL
refused('a column of a type of his, with a cast',
    q{ALTER TABLE pfa_modification ALTER sync_status DROP DEFAULT, ALTER sync_status TYPE hostile.state USING sync_status::hostile.state, ALTER sync_status SET DEFAULT 'draft'},
    q{ALTER TABLE pfa_modification ALTER sync_status DROP DEFAULT, ALTER sync_status TYPE text USING enum_out(sync_status)::text, ALTER sync_status SET DEFAULT 'draft'},
    qr/column pfa_modification\.sync_status must be text, not hostile\.state/);
refused('a column of a composite type of his',
    q{ALTER TABLE pfa_modification ALTER created_by TYPE hostile.pair USING ROW(created_by, NULL)::hostile.pair},
    q{ALTER TABLE pfa_modification ALTER created_by TYPE text USING (created_by).a},
    qr/column pfa_modification\.created_by must be text, not hostile\.pair/);
for my $table (qw(organization pfa_mirror pfa_modification))
{
    refused("a view in the place of $table",
        "ALTER TABLE $table RENAME TO was_there; CREATE VIEW $table AS SELECT * FROM was_there WHERE hostile.attack('view') IS NOT NULL; GRANT SELECT ON $table TO PUBLIC",
        "DROP VIEW $table; ALTER TABLE was_there RENAME TO $table", qr/\Q$table\E is not an ordinary table/);
}

# ---------- a column that attach added is dropped ----------

$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now');
my $columnless = commit_edit('PFA-37', 37);
as('app', 'ALTER TABLE pfa_modification DROP COLUMN sync_error');
my $sent = $fake->requests;
$t->set(enabled => 'on');
ok($t->wait_worker(state => 'not_attached'), 'without a column the worker is not_attached');
is($fake->requests, $sent, 'before anything is sent');
like(as('app', 'SELECT pems_health()'), qr/column pfa_modification\.sync_error \(text\) is missing/, 'pems_health() says which');
as('manager', 'SELECT pems_resume()');
ends_as($columnless, 'completed', 'pems_resume() adds it again, and the edit is synced');

# ---------- a table exchanged by a trigger, while we are at it ----------

# The trigger fires at one sync_status, so that what comes before it works.
sub exchange
{
    my ($at) = @_;
    as('app', <<"SQL");
CREATE FUNCTION hostile.exchange() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF to_regclass('public.was_there') IS NULL THEN
        ALTER TABLE public.pfa_mirror RENAME TO was_there;
        CREATE VIEW public.pfa_mirror AS SELECT * FROM public.was_there WHERE hostile.attack('exchanged') IS NOT NULL;
        GRANT SELECT ON public.pfa_mirror TO PUBLIC;
    END IF;
    RETURN NULL;
END
\$\$;
CREATE TRIGGER exchange AFTER INSERT OR UPDATE ON pfa_modification FOR EACH ROW WHEN (NEW.sync_status = '$at') EXECUTE FUNCTION hostile.exchange();
SQL
    return;
}

sub no_exchange { as('app', 'DROP TRIGGER exchange ON pfa_modification; DROP FUNCTION hostile.exchange()'); return }

my $changed_meanwhile = qr/^55000: the tables of the application were changed while they were written/;
my $left = draft('PFA-6', 6);
exchange('queued');
like(error_as('app', commit_statement($left)), $changed_meanwhile, 'pems_commit() fails when a trigger exchanges a table');
no_exchange();
exchange('discarded');
like(error_as('app', discard_statement($left)), $changed_meanwhile, 'so does pems_discard()');
no_exchange();
my ($contested_again, $conflict_again) = conflict('PFA-7');
exchange('superseded');
like(error_as('app', "SELECT pems_resolve_conflict('$conflict_again', 'use_pems')"), $changed_meanwhile, 'so does pems_resolve_conflict()');
no_exchange();
# it inserts a draft, and then reads the mirror
as('app', q{UPDATE pfa_mirror SET version = 3, data = data || '{"monthlyRate": 9}' WHERE pfa_id = 'PFA-8'});
as('app', <<'SQL');
CREATE FUNCTION hostile.exchange() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    ALTER TABLE public.pfa_mirror RENAME TO was_there;
    CREATE VIEW public.pfa_mirror AS SELECT * FROM public.was_there WHERE hostile.attack('exchanged') IS NOT NULL;
    GRANT SELECT ON public.pfa_mirror TO PUBLIC;
    RETURN NULL;
END
$$;
CREATE TRIGGER exchange AFTER INSERT ON pfa_modification FOR EACH ROW EXECUTE FUNCTION hostile.exchange();
SQL
like(error_as('manager', q{SELECT pems_rollback('org-rio', 'PFA-8', 1, 'why')}), $changed_meanwhile, 'so does pems_rollback(), called by an administrator');
no_exchange();
gains_nothing('a table exchanged within a call');

exchange('synced');
as('app', commit_statement($left));
ends_as($left, 'failed', 'the worker makes a dead letter of an edit whose trigger exchanges a table');
is($t->item($left)->{error_code}, 'DATABASE_ERROR', 'DATABASE_ERROR');
like($t->item($left)->{last_error}, qr/the tables of the application were changed/, 'which says why');
gains_nothing('a table exchanged while the worker records');
no_exchange();
as('manager', 'SELECT pems_retry()');
ends_as($left, 'completed', 'without the trigger, it is synced');

# ---------- constraints that the planner evaluates for who asks it to ----------

# A look at the tables does not help against what changes after it (CREATE STATISTICS waits for no lock of ours), nor against a
# setting of the session: so no function of others runs as pems_sync_worker at all.
as('app', q{ALTER TABLE pfa_modification ADD CONSTRAINT hostile_constant CHECK (hostile.immutable('constant in a check') IS NOT NULL)});
my $constant = draft('PFA-32', 32);
attacks();
like(error_as('app', 'SET constraint_exclusion = on; ' . commit_statement($constant)), qr/^42501: function hostile\.immutable\(text\) may not run with the rights of pems_sync_worker/,
    'constraint_exclusion = on: pems_commit() does not run a function of the owner');
as('manager', 'SET constraint_exclusion = on; SELECT pems_attach()');
gains_nothing('constraint_exclusion = on: pems_commit() and pems_attach()');
as('app', commit_statement($constant));
ends_as($constant, 'completed', 'without that setting, the constraint is checked when the owner writes');
gains_nothing('a constraint of constants', 'constant in a check' => 'app worker');
as('app', 'ALTER TABLE pfa_modification DROP CONSTRAINT hostile_constant');

# ---------- objects planted where our SQL could find them ----------

my ($planted, $planted_too, $deleted) = (draft('PFA-9', 9), draft('PFA-10', 10), draft('PFA-10', 11));
# Better matches than PostgreSQL's own, in the schema of the extension and in one that stands first in everybody's search_path.
for my $schema (qw(public hostile))
{
    as('app', join "\n", map { my ($left, $operator, $right, $result) = @$_; my $function = "$schema.planted_" . ++$edits; <<"SQL" }
CREATE FUNCTION $function($left, $right) RETURNS $result LANGUAGE plpgsql AS \$\$ BEGIN PERFORM hostile.attack('operator $operator'); RETURN NULL; END \$\$;
CREATE OPERATOR $schema.$operator (LEFTARG = $left, RIGHTARG = $right, FUNCTION = $function);
SQL
        [qw(text = text boolean)], [qw(text <> text boolean)], [qw(text || text text)], [qw(jsonb || jsonb jsonb)], [qw(jsonb -> text jsonb)],
        [qw(jsonb ->> text text)], [qw(integer = integer boolean)], [qw(bigint > bigint boolean)], [qw(timestamptz + interval timestamptz)]);
    as('app', join "\n", map { my ($name, $arguments, $result) = @$_; <<"SQL" }
CREATE FUNCTION $schema.$name($arguments) RETURNS $result LANGUAGE plpgsql AS \$\$ BEGIN PERFORM hostile.attack('function $name'); RETURN NULL; END \$\$;
SQL
        [ 'left', 'text, integer', 'text' ], [ 'format', 'text, text', 'text' ], [ 'now', '', 'timestamptz' ], [ 'clock_timestamp', '', 'timestamptz' ],
        [ 'jsonb_build_object', 'text, text', 'jsonb' ], [ 'nextval', 'text', 'bigint' ], [ 'cardinality', 'text[]', 'integer' ],
        [ 'gen_random_uuid', '', 'uuid' ], [ 'unnest', 'text[]', 'text' ], [ 'jsonb_typeof', 'jsonb', 'text' ], [ 'current_database', '', 'name' ],
        [ 'pg_has_role', 'name, text, text', 'boolean' ], [ 'pg_notify', 'text, text', 'text' ], [ 'array_fill', 'text, integer[]', 'text[]' ], [ 'to_char', 'timestamp, text', 'text' ]);
}
$t->sql('ALTER DATABASE postgres SET search_path = hostile, public, pg_catalog; ALTER ROLE app SET search_path = hostile, public, pg_catalog');
# what this test asks itself is not to find them
$ENV{PGOPTIONS} = '-c search_path=pg_catalog,public';
my $old_worker = $t->worker->{pid};
$t->sql("SELECT pg_terminate_backend($old_worker)");
ok($t->wait_worker(not_pid => $old_worker), 'the worker has started with that search_path');
is(as('app', q{SELECT now() IS NULL}), 't', 'the planted objects are found by who looks for them');
my %control = map { $_->{place} => 1 } attacks();
is_deeply([ sort keys %control ], ['function now'], 'and are the attack');
# in one session, with temporary objects of the names that our statements use; the drafts are older
my $temporary = join ' ', map { "CREATE TEMPORARY TABLE $_ (id text, oid oid, tgname name, relname name, unfinished boolean);" } qw(pfa_write_queue pfa_mirror pfa_modification pg_class pg_trigger new_rows old_rows one);
as('app', $temporary . q{CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.attack('temporary function'); RETURN NULL; END $$;}
      . commit_statement($planted) . discard_statement($planted_too) . "SELECT pems_resolve_conflict('$conflict_again', 'use_pems');" . 'SELECT pems_health();'
      # these two fire triggers of ours
      . "DELETE FROM public.pfa_modification WHERE id OPERATOR(pg_catalog.=) '$deleted'; UPDATE public.pfa_mirror SET version = 2 WHERE pfa_id OPERATOR(pg_catalog.=) 'PFA-31';"
      . q{SELECT pems_sync_status('org-rio', 'completed'); SELECT pems_sync_state('org-rio', ARRAY['PFA-9']); SELECT pems_conflicts('org-rio'); SELECT pems_validate('{"monthlyRate": 1}');}
      . q{SELECT count(*) FROM pems_queue; SELECT count(*) FROM pems_dead_letters; SELECT count(*) FROM pems_open_conflicts; SELECT count(*) FROM pems_endpoints});
ends_as($planted, 'completed', 'an edit is synced as if nothing were planted');
as('manager', q{SELECT pems_attach(); SELECT pems_rollback('org-rio', 'PFA-9', 1, 'why'); SELECT pems_retry(); SELECT pems_purge('1 day'); SELECT count(*) FROM pems_audit()});
ok($t->wait_for(q{SELECT count(*) = 2 FROM pfa_write_queue WHERE pfa_id = 'PFA-9' AND status = 'completed'}), 'and so is a rollback');
gains_nothing('planted objects');
$t->sql('ALTER DATABASE postgres RESET search_path; ALTER ROLE app RESET search_path');

# ---------- a superuser's tables, on which another role may hang triggers ----------

$t->sql("ALTER TABLE pfa_modification OWNER TO $superuser; ALTER TABLE pfa_mirror OWNER TO $superuser; ALTER TABLE organization OWNER TO $superuser;"
      . 'GRANT TRIGGER ON pfa_modification, pfa_mirror TO intruder; GRANT SELECT, INSERT ON pfa_modification TO app; GRANT SELECT ON pfa_mirror TO app');
sub intrude
{
    my ($condition) = @_;
    as('intruder', <<"SQL");
CREATE FUNCTION hostile.intrude() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM hostile.attack('intruder'); RETURN NULL; END \$\$;
CREATE TRIGGER intrude AFTER UPDATE ON pfa_modification FOR EACH ROW WHEN ($condition) EXECUTE FUNCTION hostile.intrude();
SQL
    return;
}
my $first = draft('PFA-30', 30);
attacks();
intrude(q{NEW.sync_status = 'queued'});
like(error_as('app', commit_statement($first)), qr/^42501: function hostile\.intrude\(\) may not run with the rights of pems_sync_worker/, 'pems_commit() refuses to run his trigger');
$t->sql('DROP TRIGGER intrude ON pfa_modification; DROP FUNCTION hostile.intrude()');
intrude(q{NEW.sync_status = 'synced'});
as('app', commit_statement($first));
ends_as($first, 'failed', 'and the worker makes a dead letter of the edit');
is($t->item($first)->{error_code}, 'DATABASE_ERROR', 'DATABASE_ERROR, too');
like($t->item($first)->{last_error}, qr/hostile\.intrude\(\) may not run with the rights of pems_sync_worker/, 'and says whose function it is');
gains_nothing('a trigger of another role on tables of a superuser');
$t->sql('DROP TRIGGER intrude ON pfa_modification; DROP FUNCTION hostile.intrude()');
as('manager', 'SELECT pems_retry()');
ends_as($first, 'completed', 'without the trigger, it is synced');

# Functions of PostgreSQL that run what they are given as text: as the worker, none of them does.
my $refused_built_in = qr/^42501: function (\w+)\(.*\) may not run with the rights of pems_sync_worker/;
my $second           = draft('PFA-31', 31);
for my $call (
    q{query_to_xml($$SELECT hostile.attack('query_to_xml')$$, true, true, '') IS NOT NULL},
    q{query_to_xmlschema($$SELECT hostile.attack('query_to_xmlschema')$$, true, true, '') IS NOT NULL},
    q{query_to_xml_and_xmlschema($$SELECT hostile.attack('query_to_xml_and_xmlschema')$$, true, true, '') IS NOT NULL},
    q{table_to_xml('hostile.look', true, true, '') IS NOT NULL}, q{table_to_xmlschema('hostile.look', true, true, '') IS NOT NULL},
    q{table_to_xml_and_xmlschema('hostile.look', true, true, '') IS NOT NULL}, q{cursor_to_xml('hostile', 1, true, true, '') IS NOT NULL},
    q{cursor_to_xmlschema('hostile', true, true, '') IS NOT NULL}, q{schema_to_xml('hostile', true, true, '') IS NOT NULL},
    q{schema_to_xmlschema('hostile', true, true, '') IS NOT NULL}, q{schema_to_xml_and_xmlschema('hostile', true, true, '') IS NOT NULL},
    q{database_to_xml(true, true, '') IS NOT NULL}, q{database_to_xmlschema(true, true, '') IS NOT NULL},
    q{database_to_xml_and_xmlschema(true, true, '') IS NOT NULL},
    q{ts_rewrite('a'::tsquery, $$SELECT 'a'::tsquery, hostile.attack('ts_rewrite')::tsquery$$) IS NOT NULL},
    q{'a'::tsquery OPERATOR(hostile.!!!) $$SELECT 'a'::tsquery, hostile.attack('ts_rewrite as an operator')::tsquery$$ IS NOT NULL})
{
    as('intruder', 'CREATE VIEW hostile.look AS SELECT hostile.attack($$a view$$) AS looked; '
          . 'CREATE OPERATOR hostile.!!! (LEFTARG = tsquery, RIGHTARG = text, FUNCTION = pg_catalog.ts_rewrite); '
          . "CREATE TRIGGER built_in AFTER UPDATE ON pfa_modification FOR EACH ROW WHEN ($call) EXECUTE FUNCTION suppress_redundant_updates_trigger()");
    my ($name) = $call =~ /^(\w+)/;
    $name = 'ts_rewrite' if $call =~ /!!!/;
    my $error = error_as('app', 'DECLARE hostile CURSOR WITH HOLD FOR SELECT hostile.attack($$a cursor$$) FROM generate_series(1, 2); ' . commit_statement($second));
    is($error =~ $refused_built_in ? $1 : $error, $name, "the condition of a trigger that calls $call is refused");
    $t->sql('DROP TRIGGER built_in ON pfa_modification; DROP VIEW hostile.look; DROP OPERATOR hostile.!!! (tsquery, text)');
}
my @by_worker = grep { $_->{as} eq 'pems_sync_worker' } attacks();
is(scalar @by_worker, 0, 'and nothing has run as the worker');
for my $query ('query_to_xml($$SELECT 1$$, true, true, $$$$)', 'ts_stat($$SELECT $a$a$a$::tsvector$$)', 'ts_stat($$SELECT $a$a$a$::tsvector$$, $$a$$)')
{
    my ($name) = $query =~ /^(\w+)/;
    like($t->sql_error("SET ROLE pems_sync_worker; SELECT * FROM $query"), qr/^42501: function $name\(/, "in FROM: $query");
}

# ---------- a look at the tables that is cancelled ----------

# The look reads pg_inherits, which a superuser has locked.  The session's second call must not believe what the first did not see.
$t->sql("ALTER TABLE pfa_mirror OWNER TO app; ALTER TABLE pfa_modification OWNER TO app; ALTER TABLE organization OWNER TO app; SELECT pems_attach()");
$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now');
my $unseen = draft('PFA-31', 32);
attacks();
as('app', q{ALTER TABLE pfa_mirror RENAME TO was_there; CREATE VIEW pfa_mirror AS SELECT * FROM was_there WHERE hostile.attack('after a cancelled look') IS NOT NULL;
    GRANT SELECT ON pfa_mirror TO PUBLIC});
my $locker = IPC::Run::start(
    [ 'psql', '-X', '-q', '-d', $t->node->connstr('postgres'), '-c', 'BEGIN; LOCK TABLE pg_catalog.pg_inherits; SELECT pg_sleep(5); COMMIT' ], '<', \'', '>&', \my $said);
ok($t->wait_for(q{SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'pg_inherits'::regclass AND mode = 'AccessExclusiveLock' AND granted)}), 'pg_inherits is locked');
my $both = do
{
    local $ENV{PGOPTIONS} = '';
    my $commit = commit_statement($unseen);
    my ($status, $out, $err) = $t->node->psql('postgres', "\\set VERBOSITY verbose\nSET statement_timeout = '1s'; $commit\nSET statement_timeout = 0; $commit\n", extra_params => [ '-U', 'app' ], on_error_stop => 0);
    $err;
};
IPC::Run::finish($locker);
like($both, qr/ERROR:  57014: /, 'the look is cancelled');
like($both, qr/ERROR:  55000: pems_sync is not attached/, 'and the next call looks again');
gains_nothing('a cancelled look');
as('app', 'DROP VIEW pfa_mirror; ALTER TABLE was_there RENAME TO pfa_mirror');

# ---------- CREATE EXTENSION over tables that were there before ----------

SKIP:
{
    skip 'hstore is not installed', 1 unless $has_hstore;
    $t->sql('CREATE DATABASE fresh OWNER app');
    as('app', "CREATE SCHEMA hostile; $attack $type", 'fresh');
    $t->sql('CREATE EXTENSION hstore SCHEMA hostile', db => 'fresh');
    as('app', 'SET search_path = public; ' . slurp_file("$FindBin::RealBin/../support/regress_tables.sql") . $typed, 'fresh');
    as('app', q{INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio'); INSERT INTO pfa_mirror VALUES ('a', 'org-rio', 'PFA-1', 1, '{}')}, 'fresh');
    attacks();
    $t->sql('CREATE EXTENSION pems_sync SCHEMA public', db => 'fresh');
    is($t->sql('SELECT count(*) FROM pems_control', db => 'fresh'), '0', 'CREATE EXTENSION does not attach to such a table');
    like($t->sql_error($_, db => 'fresh'), qr/^55000: /, "nor does $_") for 'SELECT pems_attach()', 'SELECT pems_resume()';
    gains_nothing('CREATE EXTENSION, pems_attach() and pems_resume() over an index on a type of the owner');
    as('app', 'DROP INDEX hostile_index', 'fresh');
    like($t->sql('SELECT pems_attach()', db => 'fresh'), qr/"snapshot": 1/, 'without the index they do');
}

# ---------- the functions that have the rights of a superuser ----------

# A superuser has made an event trigger of another role's function: what attach changes would run it.  In a server that does
# not preload the library, too, where the session's first call of ours loads it.
my $late = PostgreSQL::Test::Cluster->new('late');
$late->init;
$late->start;
$late->safe_psql('postgres', 'CREATE EXTENSION pems_sync SCHEMA public; SELECT pems_attach(create_missing => true); CREATE ROLE manager LOGIN IN ROLE pems_sync_admin; '
      . 'CREATE SCHEMA hostile AUTHORIZATION manager; SET ROLE manager; '
      . 'CREATE FUNCTION hostile.event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE LOG $a$event as %$a$, current_user; END $$; '
      . 'RESET ROLE; CREATE EVENT TRIGGER event ON ddl_command_start EXECUTE FUNCTION hostile.event()');
for my $before ('', 'SET pems_sync.guarded = off; ', 'SET pems_sync.guarded = 0; SELECT pems_validate($${}$$); ')
{
    for my $call ('pems_detach()', 'pems_attach()')
    {
        my ($status, $out, $err) = $late->psql('postgres', "${before}SELECT $call", extra_params => [ '-U', 'manager' ], on_error_stop => 0);
        like($err, qr/ERROR:  function hostile\.event\(\) may not run with the rights of /, "${before}$call refuses a function of another role");
    }
}
# nor is the setting, made up in a session that has not loaded the library, a way to what only these functions may
$late->safe_psql('postgres', 'DROP EVENT TRIGGER event; ALTER SCHEMA public OWNER TO manager');
for my $before ('', 'SET pems_sync.guarded = on; ')
{
    my ($status, $out, $err) = $late->psql('postgres', "${before}DROP INDEX public.pfa_write_queue_ready", extra_params => [ '-U', 'manager' ], on_error_stop => 0);
    like($err, qr/ERROR:  index "pfa_write_queue_ready" belongs to pems_sync/, "${before}the owner of the schema does not drop an index");
}
unlike(slurp_file($late->logfile), qr/LOG:  event as (?!manager)/, 'it never ran');
$late->safe_psql('postgres', 'SELECT pems_attach()');
$late->stop('fast');

unlike($t->sql('SELECT string_agg(DISTINCT event_type, $$ $$) FROM pems_audit_log'), qr/FORGED/, 'the audit log has no line of the attacker');
is($t->sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'planted'}), '0', 'there is no role that was planted');
$t->finish;
