# The checker objects.  A run with a bit of everything is found to be right; then one thing after the
# other is made wrong in the checker's copies of log and database, and it must say so.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use IPC::Run;
use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $t = PemsSync::Test->new('checker', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1, request_timeout => '1s' });
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "PFA-$_" } 1 .. 20);

# ---- a bit of everything ----

sub pems_edit
{
    my ($pfa_id, %changes) = @_;
    return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => \%changes });
}

pems_edit('PFA-2', description => 'changed in PEMS');
pems_edit('PFA-3', monthlyRate => 9000);
$fake->fault(
    { pfaId => 'PFA-4', emptyBody => JSON::PP::true, count => 1 }, { pfaId => 'PFA-5', status => 422, count => 1 },
    { pfaId => 'PFA-6', status => 500, count => 1 }, { pfaId => 'PFA-8', hang => JSON::PP::true, count => 1 },
    { pfaId => 'PFA-9', dropBeforeApply => JSON::PP::true, count => 1 }, { pfaId => 'PFA-10', newVersionBump => 2, count => 1 });
my %ids;
for my $number (1 .. 6, 8 .. 10)
{
    $ids{$number} = $t->edit('RIO', "PFA-$number", { monthlyRate => 4000 + $number });
}
$ids{7}  = $t->edit('RIO', 'PFA-7', {}, operation => 'DELETE');
$ids{11} = $t->edit('RIO', 'PFA-1', { dor => 'PROJECT' }, by => 'user@example.com');
$ids{12} = $t->edit('RIO', 'PFA-5', { dor => 'PROJECT' });
$t->commit('RIO', [ map { $ids{$_} } sort { $a <=> $b } keys %ids ]);
ok($t->quiet, 'a run with a bit of everything');
pems_edit('PFA-11', description => 'never touched by us');
my $gone = $t->edit('RIO', 'PFA-12', { monthlyRate => 1 });
$t->sql("SELECT pems_pause()");
$t->commit('RIO', [$gone]);
$t->sql("DELETE FROM pfa_modification WHERE id = '$gone'; SELECT pems_resume()");
ok($t->quiet, 'and a modification that was deleted');

my %item = map { $_ => $t->item($ids{$_})->{id} } keys %ids;
my @command = $t->checker_command;

# Run the checker on doctored copies; returns what it objects to, and its findings.
sub examine
{
    my ($sql, @more) = @_;
    my @doctor;
    if (defined $sql)
    {
        my $file = $t->directory . '/doctor.sql';
        unlink $file;
        append_to_file($file, $sql);
        @doctor = ('--doctor', $file);
    }
    my ($out, $err) = ('', '');
    IPC::Run::run([ @command, @doctor, @more ], '>', \$out, '2>', \$err);
    my $status = $? >> 8;
    my @objections = $out =~ /^not ok \d+ - (\S+)/mg;
    return ($status, join(' ', @objections), $out . $err);
}

my ($status, $objections, $text) = examine();
is("$status $objections", '0 ', 'the checker is content with it') or diag($text);
like($text, qr/^# 12 items, \d+ requests, 9 changes of ours, 2\d of others$/m, 'and it did look');

# ---- one thing after the other ----

# Parts of the SQL that doctors the copies.  check_line has the lines of PEMS's log.
# (Some of our triggers fire whatever the role of the session is.)
my $no_triggers = 'SET LOCAL session_replication_role = replica; '
  . join ' ', map { "ALTER TABLE $_ DISABLE TRIGGER USER;" } qw(pfa_write_queue pfa_mirror pfa_modification);
my $next_seq    = q{(SELECT max((line->>'seq')::bigint) + 1 FROM check_line)};

# The lines of an attempt, of all attempts, and of the change that an edit made.
sub request_line { return sprintf q{line->>'requestId' = '%s:%s'}, $item{ $_[0] }, $_[1] // 1 }
sub requests_of  { return sprintf q{line->>'requestId' LIKE '%s:%%'}, $item{ $_[0] } }
sub change_line  { return sprintf q{line->>'kind' = 'change' AND line->>'by' = 'client' AND line->>'pfaId' = 'PFA-%s'}, $_[0] }

sub quoted_json { return PemsSync::Test::quote(encode_json($_[0])) }

# Change members of lines; one more line like another, with members changed.
sub alter  { return sprintf 'UPDATE check_line SET line = line || %s WHERE %s;', quoted_json($_[1]), $_[0] }
sub remove { return "DELETE FROM check_line WHERE $_[0];" }

sub repeat
{
    my ($condition, $members) = @_;
    return sprintf "INSERT INTO check_line SELECT log, line || jsonb_build_object('seq', %s) || %s FROM check_line WHERE %s;",
      $next_seq, quoted_json($members), $condition;
}

# Change the database's copies.
sub queue        { return "UPDATE pfa_write_queue SET $_[1] WHERE id = '$item{$_[0]}';" }
sub modification { return "UPDATE pfa_modification SET $_[1] WHERE id = '$ids{$_[0]}';" }
sub audit        { return "UPDATE pems_audit_log SET $_[2] WHERE item_id = '$item{$_[0]}' AND attempt = $_[1];" }
sub mirror       { return "$no_triggers UPDATE pfa_mirror SET $_[1] WHERE pfa_id = 'PFA-$_[0]';" }
sub history      { return "UPDATE pems_mirror_version SET $_[1] WHERE pfa_id = 'PFA-$_[0]' AND version = 2;" }

my $nobody = '00000000-0000-7000-8000-000000000000';
# For patterns, where $item{1} would be a number of items.
my ($item2, $item5, $item6, $item8, $item10) = map { quotemeta } @item{ 2, 5, 6, 8, 10 };

# what is wrong => [ SQL, what must be objected to, part of the finding ]
my @wrong = (
    'a modification that says synced and is not' =>
      [ modification(5, "sync_status = 'synced'"), 'I1', qr/is failed, but its modification synced/ ],
    'an item that vanished' =>
      [ "$no_triggers DELETE FROM pfa_write_queue WHERE id = '$item{9}';", 'I1', qr/gone without a line DISCARDED/ ],
    'an unfinished item that went with its modification' =>
      [ "$no_triggers DELETE FROM pfa_write_queue WHERE id = '$item{12}'; DELETE FROM pfa_modification WHERE id = '$ids{12}';", 'I1 counts',
        qr/gone without a line DISCARDED/ ],
    'an item nobody committed' =>
      [ "DELETE FROM pems_audit_log WHERE item_id = '$item{1}' AND event_type = 'COMMITTED';", 'I1',
        qr/not in the audit log as COMMITTED/ ],
    'a committed modification without an item' => [ <<'SQL', 'I1', qr/modification m-x is queued and has no item/ ],
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, sync_status)
VALUES ('m-x', 'org-rio', 'PFA-1', 1, '{}', 'somebody', 'queued');
SQL
    'synced, but PEMS has nothing of it' => [ remove(change_line(8)), 'I1 I8 log', qr/completed, but PEMS applied nothing/ ],
    'an item that waits for ever' =>
      [ queue(5, "status = 'pending', waits_for = 'turn'") . modification(5, "sync_status = 'queued'"), 'I1',
        qr/waits for its turn for ever/ ],
    'a conflict without its record' =>
      [ "DELETE FROM pfa_sync_conflict; DELETE FROM pems_audit_log WHERE event_type = 'CONFLICT_DETECTED';", 'I1 I6',
        qr/no unresolved conflict record/ ],
    'another version than PEMS made' =>
      [ modification(8, 'pems_version = 1'), 'I1', qr/made version 2 in PEMS, but its modification says 1/ ],

    'a request for an item that does not exist' =>
      [ repeat(request_line(1), { requestId => "$nobody:1", idempotencyKey => "$nobody:1" }), 'I2 I6', qr/never committed/ ],
    'a request without an item' =>
      [ repeat(request_line(1), { requestId => undef, idempotencyKey => undef, call => 'read', method => 'GET' }), 'I2',
        qr/names no item/ ],
    'a request to another record' =>
      [ repeat(request_line(8), { requestId => "$item{8}:99", pfaId => 'PFA-9' }), 'I2 I6',
        qr/is about RIO\/PFA-9, its item about RIO\/PFA-8/ ],
    'a request with more than the delta' =>
      [ alter(request_line(8), { changes => { monthlyRate => 4008, dor => 'BEO' } }), 'I2', qr/sends dor, which its item does not/ ],
    'a request with another value' =>
      [ alter(request_line(8), { changes => { monthlyRate => 1 } }), 'I2', qr/sends monthlyRate, which its item does not/ ],
    'a request before its commit' =>
      [ alter(request_line(8), { at => '2020-01-01T00:00:00Z' }), 'I2', qr/arrived before its item was queued/ ],
    'a request in another name' => [ alter(request_line(8), { modifiedBy => 'mallory' }), 'I2', qr/in the name of mallory/ ],
    'another idempotency key' => [ alter(request_line(8), { idempotencyKey => 'x' }), 'I2', qr/has the idempotency key x/ ],

    'a write over what somebody changed' =>
      [ alter(q{line->'changes' = '{"description": "changed in PEMS"}'}, { changes => { monthlyRate => 1 } }), 'I3 I8',
        qr/wrote PFA-2\.monthlyRate = 4002 over 1, which was 5500 at the base version 1/ ],
    'a write whose base PEMS never had' =>
      [ queue(2, 'base_version = 77'), 'I3', qr/which was unknown at the base version 77/ ],
    'a write on an old version' =>
      [ alter(request_line(2, 3), { version => 1, idempotencyKey => "$item{2}:1" }), 'I3',
        qr/wrote on version 1 of RIO\/PFA-2, which was at 2/ ],
    'a write on an older version than was found' =>
      [ alter(request_line(2, 3), { version => 1, idempotencyKey => "$item{2}:1" }), 'I3',
        qr/$item2:3 was sent on version 1, although $item2:2 had found version 2/ ],
    'an edit of another user over the one before' =>
      [ modification(11, q{created_by = 'eve'}) . queue(11, q(created_by = 'eve', payload = '{"monthlyRate": 2}'))
          . alter(request_line(11), { modifiedBy => 'eve', changes => { monthlyRate => 2 } })
          . alter(change_line(1) . q{ AND line->'changes' ? 'dor'}, { user => 'eve', changes => { monthlyRate => 2 } }),
        'I3 I8', qr/wrote PFA-1\.monthlyRate = 2 over 4001, which was 5500/ ],
    'a delete of what somebody changed' =>
      [ queue(2, q(operation = 'DELETE', payload = '{}'))
          . alter(requests_of(2) . q{ AND line->>'method' = 'PUT'}, { call => 'delete', method => 'DELETE', changes => undef })
          . alter(change_line(2), { changes => undef, deleted => JSON::PP::true })
          . "UPDATE pems_audit_log SET http_method = 'DELETE' WHERE item_id = '$item{2}' AND http_method = 'PUT';",
        'I3 I8', qr/deleted RIO\/PFA-2, which somebody had changed/ ],
    'a chain with a gap' =>
      [ alter(change_line(8), { fromVersion => 5 }), 'I3', qr/goes from version 5 to 2, but the record was at 1/ ],

    'two changes by one item' =>
      [ repeat(request_line(8), { requestId => "$item{8}:99", version => 2, idempotencyKey => "$item{8}:2" })
          . repeat(change_line(8), { fromVersion => 2, toVersion => 3 })
          . "UPDATE check_line SET line = line || jsonb_build_object('requestSeq', (line->>'seq')::bigint - 1)
             WHERE line->>'kind' = 'change' AND line->>'toVersion' = '3' AND line->>'pfaId' = 'PFA-8';",
        'I1 I4 I6', qr/item $item8 changed PEMS 2 times: versions 2, 3/ ],
    'a second write without a look' =>
      [ alter(request_line(6, 2), { call => 'update', method => 'PUT', version => 1, changes => { monthlyRate => 4006 },
            modifiedBy => 'user@example.com', idempotencyKey => "$item{6}:1" })
          . audit(6, 2, "http_method = 'PUT', event_type = 'WRITE_ATTEMPT'"),
        'I4', qr/$item6:2 was written again, without a look after $item6:1/ ],
    'a look that comes too soon' =>
      [ "UPDATE check_line SET line = line || jsonb_build_object('at', (line->>'at')::timestamptz + interval '1 second')
         WHERE " . request_line(6, 1) . ';' . audit(6, 1, "at = at + interval '1 second'"),
        'I4', qr/$item6:2 looked for the outcome of $item6:1 after only/ ],

    'the other order' =>
      [ "UPDATE pfa_write_queue SET commit_seq = -commit_seq WHERE pfa_id = 'PFA-1';", 'I5', qr/reached PEMS after item/ ],
    'a request before the last one was recorded' =>
      [ audit(6, 1, "at = at + interval '10 seconds'"), 'I5', qr/was sent before the outcome of $item6:1 was recorded/ ],
    'a held item that was sent' =>
      [ repeat(request_line(11), { requestId => "$item{12}:1", idempotencyKey => "$item{12}:2", pfaId => 'PFA-5', status => 422,
            applied => JSON::PP::false }),
        'I5 I6', qr/was sent while item $item5, committed earlier, was not finished/ ],

    'an attempt that is not in the audit log' =>
      [ "DELETE FROM pems_audit_log WHERE item_id = '$item{8}' AND attempt = 1;", 'I6', qr/request $item8:1 is in the audit log 0 times/ ],
    'an attempt that is there twice' =>
      [ "INSERT INTO pems_audit_log SELECT * FROM pems_audit_log WHERE item_id = '$item{8}' AND attempt = 1;", 'I6',
        qr/request $item8:1 is in the audit log 2 times/ ],
    'an attempt with another status' =>
      [ audit(10, 1, 'http_status = 201'), 'I6', qr/was a PUT with status 200, the audit log says PUT with 201/ ],
    'an answer to a request that was never made' => [ <<"SQL", 'I6', qr/attempt $item10:9 got status 200, but no such request arrived/ ],
INSERT INTO pems_audit_log (event_type, organization_id, pfa_id, modification_id, item_id, attempt, http_method, http_status)
SELECT event_type, organization_id, pfa_id, modification_id, item_id, 9, http_method, http_status
FROM pems_audit_log WHERE item_id = '$item{10}' AND attempt = 1;
SQL
    'a request that the log of PEMS does not have' =>
      [ remove(request_line(6, 2)), 'I4 I6 log', qr/got status 200, but no such request arrived/ ],
    'a failure without a reason' =>
      [ remove(request_line(9)) . audit(9, 1, 'error_code = NULL'), 'I6 log', qr/never arrived, and its error is none/ ],
    'an attempt that nobody knows of' => [ queue(8, 'attempt = attempt + 1'), 'I6', qr/of 4 attempts of item/ ],
    'a request that arrived twice' => [ repeat(request_line(5), {}), 'I6', qr/request $item5:1 arrived 2 times/ ],
    'a conflict that is not in the audit log' =>
      [ "DELETE FROM pems_audit_log WHERE event_type = 'CONFLICT_DETECTED';", 'I6', qr/has 0 lines CONFLICT_DETECTED/ ],

    'a transaction that stays open' => [ <<'SQL', 'I7', qr/has had a transaction open/ ],
CREATE TEMP TABLE pg_stat_activity AS SELECT * FROM pg_catalog.pg_stat_activity;
UPDATE pg_stat_activity SET xact_start = now() - interval '1 minute' WHERE backend_type LIKE 'pems_sync%';
SQL

    'another value in the mirror' =>
      [ mirror(8, q(data = data || '{"monthlyRate": 1}')), 'I8',
        qr/at version 2 PEMS has \{"monthlyRate": 4008\}, the mirror \{"monthlyRate": 1\}/ ],
    'a field less in the mirror' =>
      [ mirror(8, q(data = data - 'purchasePrice')), 'I8', qr/PEMS has \{"purchasePrice": null\}, the mirror / ],
    'another version in the mirror' => [ mirror(8, 'version = 1'), 'I8', qr/PEMS has version 2, the mirror 1/ ],
    'a mirror that does not know of a delete' =>
      [ mirror(7, 'deleted_at = NULL'), 'I8', qr/deleted is t in PEMS, f in the mirror/ ],
    'no mirror' => [ "$no_triggers DELETE FROM pfa_mirror WHERE pfa_id = 'PFA-8';", 'I8', qr/has no mirror/ ],
    'a history that PEMS never had' =>
      [ history(8, q(data = data || '{"monthlyRate": 3}')), 'I8', qr/the history of version 2 is not what PEMS had/ ],
    'a version that the history does not have' =>
      [ "DELETE FROM pems_mirror_version WHERE pfa_id = 'PFA-8' AND version = 2;", 'I8',
        qr/is at version 2, and the history does not have it/ ],

    'an item that is unfinished' =>
      [ queue(5, "status = 'pending', waits_for = NULL") . modification(5, "sync_status = 'queued'"), 'quiet', qr/is still pending/ ],
    'statistics that are off' =>
      [ "INSERT INTO pems_sync_stats (organization_id, hour, failed) VALUES ('org-rio', now(), 1);", 'counts',
        qr/failed is 2 in the statistics and 1 in the queue/ ],
    'a log that was reset' =>
      [ "INSERT INTO check_line SELECT 1, jsonb_build_object('kind', 'reset', 'seq', $next_seq);", 'log', qr/was reset/ ]);

my @checker_options;

sub objects
{
    while (my ($name, $wrong) = splice @_, 0, 2)
    {
        my ($sql, $expected, $finding) = @$wrong;
        my ($status, $objections, $text) = examine($sql, @checker_options);
        is("$status $objections", "1 $expected", "$name: it objects to $expected") or diag($text);
        like($text, $finding, "$name: and says why");
    }
    return;
}
objects(@wrong);

# ---- what looks different and is the same ----

my $digits = q(data = data || '{"monthlyRate": 4008.00}');
my $zone   = q(data = data || '{"forecastStart": "2025-01-15T01:00:00+01:00"}');
my @same   = (
    'a finished edit that the application deleted' =>
      "$no_triggers DELETE FROM pfa_write_queue WHERE id = '$item{8}'; DELETE FROM pfa_modification WHERE id = '$ids{8}';",
    'a number with other digits'  => mirror(8, $digits) . history(8, $digits),
    'an instant in another zone'  => mirror(8, $zone) . history(8, $zone),
    'statistics that are written' => 'UPDATE pems_sync_stats SET failed = failed + 0;');
while (my ($name, $sql) = splice @same, 0, 2)
{
    my ($status, $objections, $text) = examine($sql);
    is("$status $objections", '0 ', "$name: it is content") or diag($text);
}

# ---- conflicts that were resolved, dead letters that were retried ----

my $resolved = 0;

# An edit that meets another value in PEMS; its conflict, once it is there.
sub conflict_on
{
    my ($number) = @_;
    pems_edit("PFA-$number", monthlyRate => 9000);
    $ids{$number} = $t->commit_edit('RIO', "PFA-$number", { monthlyRate => 4000 + $number });
    $t->wait_status($ids{$number}, 'conflict');
    return $t->conflict($ids{$number})->{id};
}

sub resolve
{
    my ($conflict, $how, $merged) = @_;
    my $arguments = defined $merged ? ', ' . quoted_json($merged) : '';
    $t->sql("SELECT pems_resolve_conflict('$conflict', '$how'$arguments, resolved_by => 'ann')");
    return $resolved++;
}

# PEMS moves on in another field, and the resolution stands
my $conflict = conflict_on(13);
pems_edit('PFA-13', description => 'moved on');
resolve($conflict, 'use_local');
resolve(conflict_on(14), 'merge', { monthlyRate => 4444 });
resolve(conflict_on(15), 'use_pems');
# PEMS moves on in the same field: a conflict once more
$conflict = conflict_on(16);
pems_edit('PFA-16', monthlyRate => 9999);
resolve($conflict, 'use_local');
$t->wait_until(sub { my $c = $t->conflict($ids{16}); $c->{id} ne $conflict && $c->{status} eq 'unresolved' }, what => 'a conflict once more');
resolve($t->conflict($ids{16})->{id}, 'merge', { monthlyRate => 5555 });
# a dead letter, and an edit behind it
$fake->fault({ pfaId => 'PFA-17', status => 422, count => 1 });
$ids{17} = $t->commit_edit('RIO', 'PFA-17', { monthlyRate => 4017 });
$ids{19} = $t->commit_edit('RIO', 'PFA-17', { dor => 'PROJECT' });
$t->wait_status($ids{17}, 'failed');
Time::HiRes::sleep(0.2);    # the checker knows the order of commits to a tenth of a second
$t->sql("SELECT pems_retry(ARRAY[q.id], retried_by => 'boss') FROM pfa_write_queue q WHERE q.modification_id = '$ids{17}'");
# applied, the answer lost, and overwritten in PEMS: with use_local it changes PEMS a second time
$fake->fault({ pfaId => 'PFA-18', applyThenDrop => JSON::PP::true, count => 1 });
$ids{18} = $t->commit_edit('RIO', 'PFA-18', { monthlyRate => 4018 });
$t->wait_until(sub { $fake->record('RIO', 'PFA-18')->{version} == 2 }, what => 'the write');
pems_edit('PFA-18', monthlyRate => 7000);
$t->wait_status($ids{18}, 'conflict');
resolve($t->conflict($ids{18})->{id}, 'use_local');
# the same as PEMS has already
pems_edit('PFA-20', monthlyRate => 4020);
$ids{20} = $t->commit_edit('RIO', 'PFA-20', { monthlyRate => 4020 });
# an edit behind one that is deleted
$t->sql('SELECT pems_pause()');
$gone = $t->commit_edit('RIO', 'PFA-19', { monthlyRate => 1 });
Time::HiRes::sleep(0.2);
$ids{21} = $t->commit_edit('RIO', 'PFA-19', { monthlyRate => 2 });
Time::HiRes::sleep(0.2);
$t->sql("DELETE FROM pfa_modification WHERE id = '$gone'; SELECT pems_resume()");

ok($t->quiet, 'resolutions, and a retry');
$item{$_} = $t->item($ids{$_})->{id} for 13 .. 21;
@command = $t->checker_command;
($status, $objections, $text) = examine();
is("$status $objections", '0 ', 'the checker is content with them') or diag($text);
is($t->sql("SELECT count(*) FROM pfa_sync_conflict WHERE status = 'resolved_manual'"), $resolved, 'all are resolved');

sub conflict_row  { return "UPDATE pfa_sync_conflict SET $_[1] WHERE item_id = '$item{$_[0]}' AND previous_conflict_id IS NULL;" }
sub decision      { return "event_type = 'CONFLICT_RESOLVED' AND item_id = '$item{$_[0]}'" }
sub undecided     { return 'DELETE FROM pems_audit_log WHERE ' . decision($_[0]) . ';' }
sub last_write    { my $n = $t->sql("SELECT max(attempt) FROM pems_audit_log WHERE item_id = '$item{$_[0]}' AND http_method = 'PUT'"); return request_line($_[0], $n) }
sub pems_change   { return sprintf q{line->>'kind' = 'change' AND line->>'by' = 'control' AND line->>'pfaId' = 'PFA-%s' AND line->'changes' = %s}, $_[0], quoted_json($_[1]) }

# A request at the moment of a line of the audit log.
sub at_moment
{
    my ($condition, $line, $shift) = @_;
    return "UPDATE check_line SET line = line || jsonb_build_object('at', (SELECT max(a.at) + interval '$shift' FROM pems_audit_log a WHERE $line)) WHERE $condition;";
}

my ($item13, $item14, $item15, $item17, $item18, $item19, $item20, $item21) = map { quotemeta } @item{ 13, 14, 15, 17, 18, 19, 20, 21 };
objects(
    'a write over what PEMS moved after the resolution' =>
      [ alter(pems_change(13, { description => 'moved on' }), { changes => { monthlyRate => 1 } }), 'I3 I8',
        qr/wrote PFA-13\.monthlyRate = 4013 over 1, which was 9000 at the base version 2/ ],
    'a write over what nobody resolved' => [ undecided(13), 'I1 I3', qr/wrote PFA-13\.monthlyRate = 4013 over 9000, which was 5500 at the base version 1/ ],
    'a second change without a resolution in between' =>
      [ undecided(18), 'I1 I3 I4', qr/item $item18 changed PEMS 2 times: versions 2, 4/ ],
    'a second change after a resolution' =>
      [ repeat(last_write(14), { requestId => "$item{14}:99", version => 3, idempotencyKey => "$item{14}:3" })
          . repeat(change_line(14), { fromVersion => 3, toVersion => 4 })
          . "UPDATE check_line SET line = line || jsonb_build_object('requestSeq', (line->>'seq')::bigint - 1)
             WHERE line->>'kind' = 'change' AND line->>'toVersion' = '4' AND line->>'pfaId' = 'PFA-14';",
        'I1 I4 I6', qr/item $item14 changed PEMS 2 times after resolution 1: versions 3, 4/ ],
    'another value than was merged' => [ alter(last_write(14), { changes => { monthlyRate => 4014 } }), 'I2', qr/sends monthlyRate, which its item does not/ ],
    'an edit from before the resolution, sent after it' =>
      [ conflict_row(14, q(merged_data = '{"monthlyRate": 4445}')) . queue(14, q(payload = '{"monthlyRate": 4445}')), 'I2',
        qr/sends monthlyRate, which its item does not/ ],
    'changes that nobody decided' => [ queue(14, q(payload = '{"monthlyRate": 1}')), 'I1', qr/what was decided is base 2 and changes \{"monthlyRate": 4444\}/ ],
    'a base that nobody saw' => [ queue(14, 'base_version = 1'), 'I1', qr/item $item14 has base 1/ ],
    'a conflict about another base' => [ conflict_row(16, 'local_version = 2'), 'I3', qr/shows what RIO\/PFA-16 never was at version 2/ ],
    'a conflict about other changes' =>
      [ "UPDATE pfa_sync_conflict SET local_data = '{}' WHERE item_id = '$item{16}' AND previous_conflict_id IS NOT NULL;", 'I1',
        qr/conflict \S+ has base 2 and changes \{\}, its item had base 2 and changes \{"monthlyRate": 4016\}/ ],
    'a conflict that shows what was not so' =>
      [ conflict_row(13, q(pems_data = pems_data || '{"monthlyRate": 8999}')), 'I3', qr/shows what RIO\/PFA-13 never was at version 2/ ],
    'a conflict that does not name the one before' =>
      [ "UPDATE pfa_sync_conflict SET previous_conflict_id = NULL WHERE item_id = '$item{16}';", 'I1', qr/follows \S+, but names none/ ],
    'a resolution that is there twice' =>
      [ "INSERT INTO pems_audit_log SELECT * FROM pems_audit_log WHERE " . decision(15) . ';', 'I1', qr/with use_pems, which the audit log has 2 times/ ],
    'a resolution by somebody else' =>
      [ "UPDATE pems_audit_log SET actor = 'eve' WHERE " . decision(13) . ';', 'I1', qr/with use_local, which the audit log has 0 times/ ],
    'another resolution' => [ conflict_row(15, q(resolution = 'use_local')), 'I1', qr/with use_local, which the audit log has 0 times/ ],
    'a conflict that is resolved and does not say so' =>
      [ conflict_row(13, q(status = 'unresolved')), 'I1', qr/is unresolved, and the audit log says that it was decided/ ],
    'an edit that nobody gave up' => [ undecided(15), 'I1', qr/item $item15 is cancelled, and nobody decided that/ ],
    'an edit that was superseded, not discarded' =>
      [ modification(15, q(sync_status = 'discarded')), 'I1', qr/is cancelled, but its modification discarded/ ],
    'an edit that was given up, and sent' =>
      [ repeat(request_line(15, 1), { requestId => "$item{15}:9", at => '2100-01-01T00:00:00Z', version => 2, idempotencyKey => "$item{15}:2" }), 'I1 I6',
        qr/request $item15:9 was sent after its item had been cancelled/ ],
    'synced without a request, and not in PEMS' =>
      [ alter(pems_change(20, { monthlyRate => 4020 }), { changes => { monthlyRate => 4021 } }), 'I1 I8',
        qr/item $item20 is completed without a request at version 2, but PEMS does not have its monthlyRate there/ ],
    'an item that overtook a dead letter' =>
      [ at_moment(request_line(19), "a.event_type = 'RETRIED' AND a.item_id = '$item{17}'", '0'), 'I5',
        qr/request $item19:1 was sent while item $item17, committed earlier, was not finished/ ],
    'a retried item that overtook an earlier one' => [ queue(19, 'commit_seq = 0'), 'I5', qr/request $item17:2 was sent while item $item19/ ],
    'an item that overtook one that was deleted' =>
      [ at_moment(request_line(21), "a.event_type = 'DISCARDED' AND a.modification_id = '$gone'", '-1 millisecond'), 'I5',
        qr/request $item21:1 was sent while item \S+, committed earlier and deleted later, was not finished/ ],
    'a look that comes too soon after an unknown outcome' =>
      [ at_moment(request_line(18, 1), "a.item_id = '$item{18}' AND a.attempt = 2", '-1 second') . "UPDATE pems_audit_log SET at = at + interval '1 second'
         WHERE item_id = '$item{18}' AND attempt = 1;", 'I4', qr/$item18:2 looked for the outcome of $item18:1 after only/ ]);

# ---- after a full pull ----

# Waits for the end of a pull of RIO; returns its job.
sub pull
{
    my ($arguments) = @_;
    my $job = $t->sql("SELECT pems_pull('org-rio', $arguments) ->> 'jobId'");
    $t->wait_for("SELECT status <> 'running' FROM pems_sync_job WHERE id = '$job'", what => 'the end of a pull');
    return $job;
}

# one that only PEMS has, and one that it had; one that was never touched by us; one that is gone without a tombstone
$fake->edit(map { { organizationCode => 'RIO', pfaId => $_, data => PemsSync::Test::record_data($_) } } 'PFA-21', 'PFA-22');
$fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-22', delete => JSON::PP::true });
pems_edit('PFA-11', description => 'once more');
$fake->forget('RIO', 'PFA-12');
my $single = pull(q{'PFA-11'});
my $full   = pull(q{mode => 'full'});
@command = $t->checker_command;
is((examine())[1], '', 'the checker is content with a full pull') or diag((examine())[2]);
@checker_options = '--complete';
($status, $objections, $text) = examine(undef, '--complete');
is("$status $objections", '0 ', 'also where it looks at all records') or diag($text);
is($t->sql("SELECT string_agg(pfa_id, ' ' ORDER BY pfa_id) FROM pfa_mirror WHERE deleted_at IS NOT NULL"), 'PFA-12 PFA-7', 'two are deleted');

# (the history has what the mirror has)
my $with_history = q{INSERT INTO pems_mirror_version (organization_id, pfa_id, version, data, source) SELECT m.organization_id, m.pfa_id, m.version, m.data, 'external' FROM pfa_mirror m
    WHERE NOT EXISTS (SELECT FROM pems_mirror_version v WHERE v.organization_id = m.organization_id AND v.pfa_id = m.pfa_id AND v.version = m.version AND v.data = m.data);};
sub pulled_mirror { return mirror(@_) . $with_history }
sub pull_request  { return sprintf q{line->>'requestId' = '%s:%s'}, $_[0], $_[1] // 1 }
sub pull_state    { return "UPDATE pems_pull_state SET $_[1] WHERE job_id = '$_[0]';" }

objects(
    'other data of a record that was only pulled' =>
      [ pulled_mirror(21, q(data = data || '{"monthlyRate": 1}')), 'I8', qr/RIO\/PFA-21: after a full pull PEMS has other data at version 1/ ],
    'another version of a record that was only pulled' =>
      [ pulled_mirror(11, 'version = 2'), 'I8', qr/RIO\/PFA-11: after a full pull PEMS has version 3, the mirror 2/ ],
    'a record that only PEMS has' => [ "$no_triggers DELETE FROM pfa_mirror WHERE pfa_id = 'PFA-21';", 'I8', qr/RIO\/PFA-21 is in PEMS, and not in the mirror/ ],
    'a record that is marked as deleted and is not' => [ mirror(21, 'deleted_at = now()'), 'I8', qr/RIO\/PFA-21: after a full pull deleted is f in PEMS, t in the mirror/ ],
    'a tombstone that the mirror does not know' =>
      [ "$no_triggers INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT organization_id, 'PFA-22', 1, data FROM pfa_mirror WHERE pfa_id = 'PFA-21';" . $with_history,
        'I8', qr/RIO\/PFA-22: after a full pull deleted is t in PEMS, f in the mirror/ ],
    'a record that is gone from PEMS' => [ mirror(12, 'deleted_at = NULL'), 'I8', qr/RIO\/PFA-12 is alive in the mirror, and PEMS has not got it/ ],
    'a record that stays in quarantine' =>
      [ "INSERT INTO pems_quarantined (organization_id, pfa_id, identified, reason) VALUES ('org-rio', 'PFA-21', true, 'no version');", 'I8',
        qr/RIO\/PFA-21 is in quarantine \(no version\), but a full pull has stored it/ ],
    'a pull that is not over' => [ pull_state($single, q(phase = 'reading')), 'quiet', qr/pull $single of RIO is not over: reading/ ],
    'a change after the full pull' => [ pull_state($full, q(listing_since = listing_since - interval '1 hour')), 'quiet', qr/no full pull of RIO was complete that began after the last change/ ],
    'a full pull that was cancelled' => [ "UPDATE pems_sync_job SET status = 'cancelled' WHERE id = '$full';", 'quiet', qr/no full pull of RIO was complete/ ],
    'only a pull of one record' => [ pull_state($full, q(pfa_id = 'PFA-1')), 'I6 quiet', qr/no full pull of RIO was complete/ ]);

@checker_options = ();
my $again = sub { repeat(pull_request($_[0]), $_[1]) };
objects(
    'a request of a pull that arrived twice'  => [ $again->($single, {}), 'I6', qr/request $single:1 of a pull arrived 2 times/ ],
    'a request that its pull does not know'   => [ $again->($single, { requestId => "$single:2" }), 'I6', qr/pull $single has made 1 requests, but request 2 arrived/ ],
    'a pull that nobody knows any more'       => [ "DELETE FROM pems_pull_state WHERE job_id = '$single';", 'I6', qr/pull $single has made 0 requests, but request 1 arrived/ ],
    'a pull that reads another record'        => [ alter(pull_request($single), { pfaId => 'PFA-13' }), 'I6', qr/request $single:1 asks for RIO\/PFA-13, its pull reads PFA-11 of RIO/ ],
    'a pull that lists where it should read'  => [ alter(pull_request($single), { pfaId => undef, call => 'list' }), 'I6', qr/request $single:1 asks for RIO\/all, its pull reads PFA-11/ ],
    'a delta that asks for one record'        => [ pull_state($full, q(mode = 'delta')), 'I6', qr/asks for RIO\/PFA-12, its pull reads all of RIO/ ],
    'a pull that writes'                      => [ alter(pull_request($single), { call => 'update', method => 'PUT' }), 'I2', qr/request $single:1 of a pull is a PUT/ ],
    # a pull may bring what came later, never what was before
    'a mirror from before the last write, after a pull' => [ mirror(8, q(version = 1, data = (SELECT v.data FROM pems_mirror_version v WHERE v.pfa_id = 'PFA-8' AND v.version = 1))),
        'I8', qr/RIO\/PFA-8: PEMS has version 2, the mirror 1/ ],
    'a mirror as PEMS never was, after a pull' => [ mirror(8, 'version = 3') . $with_history, 'I8', qr/RIO\/PFA-8: PEMS has version 2, the mirror 3/ ]);

# PEMS has moved on since the last write, and a pull has brought it
pems_edit('PFA-8', description => 'moved on');
pull(q{'PFA-8'});
@command = $t->checker_command;
($status, $objections, $text) = examine();
is("$status $objections", '0 ', 'a pull may bring a later state than the last write') or diag($text);

# PEMS goes back to a backup: versions come twice, and an edit may have to be made once more
$fake->restore('RIO', pfaIds => ['PFA-8'], versionsBack => 2);
pull(q{mode => 'adopt'});
is($t->mirror('RIO', 'PFA-8')->{version}, 1, 'the mirror goes back with PEMS');
@command = $t->checker_command;
($status, $objections, $text) = examine(undef, '--complete');
is("$status $objections", '0 ', 'the checker is content with a restore that was adopted') or diag($text);
my $twice = repeat(request_line(8, 3), { requestId => "$item{8}:99" })
  . repeat(change_line(8), { fromVersion => 1, toVersion => 2 })
  . "UPDATE check_line SET line = line || jsonb_build_object('requestSeq', (line->>'seq')::bigint - 1) WHERE (line->>'seq')::bigint = $next_seq - 1;";
unlike((examine($twice))[2], qr/item $item8 changed PEMS 2 times/, 'an edit that is made once more after a restore is no second effect');
like((examine($twice . remove(q{line->>'kind' = 'change' AND line->>'by' = 'control' AND line->>'pfaId' = 'PFA-8' AND line->>'toVersion' = '1' AND (line->>'fromVersion')::integer > 1})))[2],
    qr/item $item8 changed PEMS 2 times/, 'without the restore it is');

# ---- when it cannot look ----

is((examine('SELECT nonsense;'))[0], 2, 'exit status 2 when its SQL fails');
my ($log) = map { $command[ $_ + 1 ] } grep { $command[$_] eq '--log' } 0 .. $#command;
my $damaged = $t->directory . '/damaged.jsonl';
append_to_file($damaged, join "\n", map { s/"version":1/"version":one/r } split /\n/, slurp_file($log));
is((examine(undef, '--log', $damaged))[0], 2, 'exit status 2 when the log cannot be read');
is((examine(undef, '--log', "$damaged.missing"))[0], 2, 'or is not there');

$t->finish;
