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

my $quiet_triggers = 'SET LOCAL session_replication_role = replica;';
# A line like that of the request of an item, with other members.
my $another = sub {
    my ($number, $members, $condition) = @_;
    return "INSERT INTO check_line SELECT log, line || jsonb_build_object('seq', (SELECT max((line->>'seq')::bigint) + 1 FROM check_line)) || '$members' "
      . "FROM check_line WHERE line->>'requestId' = '$item{$number}:1' $condition;";
};
my $change_of = sub { "line->>'kind' = 'change' AND line->>'by' = 'client' AND line->>'pfaId' = 'PFA-$_[0]'" };

# what is wrong => [ SQL, what must be objected to, part of the finding ]
my @wrong = (
    'a modification that says synced and is not' => [ "UPDATE pfa_modification SET sync_status = 'synced' WHERE id = '$ids{5}'", 'I1', qr/is failed, but its modification synced/ ],
    'an item that vanished' => [ "$quiet_triggers DELETE FROM pfa_write_queue WHERE id = '$item{9}'", 'I1', qr/gone without a line DISCARDED/ ],
    'an item nobody committed' => [ "DELETE FROM pems_audit_log WHERE item_id = '$item{1}' AND event_type = 'COMMITTED'", 'I1', qr/not in the audit log as COMMITTED/ ],
    'a committed modification without an item' => [ "UPDATE pfa_modification SET sync_status = 'queued' WHERE id = '$gone'; INSERT INTO pfa_modification SELECT 'm-x', organization_id, pfa_id, base_version, delta, created_by, created_at, operation, change_reason, 'queued' FROM pfa_modification LIMIT 1",
        'I1', qr/modification m-x is queued and has no item/ ],
    'synced, but PEMS has nothing of it' => [ "DELETE FROM check_line WHERE " . $change_of->(8) . "; UPDATE check_line SET line = jsonb_set(line, '{seq}', to_jsonb((line->>'seq')::bigint - 1)) WHERE false",
        'I1 I8 log', qr/completed, but PEMS applied nothing/ ],
    'an item that waits for ever' => [ "UPDATE pfa_write_queue SET status = 'pending', waits_for = 'turn' WHERE id = '$item{5}'; UPDATE pfa_modification SET sync_status = 'queued' WHERE id = '$ids{5}'",
        'I1', qr/waits for its turn for ever/ ],
    'a conflict without its record' => [ "DELETE FROM pfa_sync_conflict; DELETE FROM pems_audit_log WHERE event_type = 'CONFLICT_DETECTED'", 'I1 I6', qr/no unresolved conflict record/ ],
    'another version than PEMS made' => [ "UPDATE pfa_modification SET pems_version = 1 WHERE id = '$ids{8}'", 'I1', qr/made version 2 in PEMS, but its modification says 1/ ],

    'a request for an item that does not exist' => [ $another->(1, '{"requestId": "00000000-0000-7000-8000-000000000000:1", "idempotencyKey": "00000000-0000-7000-8000-000000000000:1"}', ''),
        'I2 I6', qr/never committed/ ],
    'a request without an item' => [ $another->(1, '{"requestId": null, "idempotencyKey": null, "call": "read", "method": "GET"}', ''), 'I2', qr/names no item/ ],
    'a request to another record' => [ $another->(8, qq({"requestId": "$item{8}:99", "pfaId": "PFA-9"}), ''), 'I2 I6', qr/is about RIO\/PFA-9, its item about RIO\/PFA-8/ ],
    'a request with more than the delta' => [ "UPDATE check_line SET line = jsonb_set(line, '{changes,dor}', '\"BEO\"') WHERE line->>'requestId' = '$item{8}:1'", 'I2', qr/sends dor, which its item does not/ ],
    'a request with another value' => [ "UPDATE check_line SET line = jsonb_set(line, '{changes,monthlyRate}', '1') WHERE line->>'requestId' = '$item{8}:1'", 'I2', qr/sends monthlyRate/ ],
    'a request before its commit' => [ "UPDATE check_line SET line = jsonb_set(line, '{at}', '\"2020-01-01T00:00:00Z\"') WHERE line->>'requestId' = '$item{8}:1'", 'I2', qr/arrived before its item was queued/ ],
    'a request in another name' => [ "UPDATE check_line SET line = jsonb_set(line, '{modifiedBy}', '\"mallory\"') WHERE line->>'requestId' = '$item{8}:1'", 'I2', qr/in the name of mallory/ ],
    'another idempotency key' => [ "UPDATE check_line SET line = jsonb_set(line, '{idempotencyKey}', '\"x\"') WHERE line->>'requestId' = '$item{8}:1'", 'I2', qr/has the idempotency key x/ ],

    'a write over what somebody changed' => [ "UPDATE check_line SET line = jsonb_set(line, '{changes}', '{\"monthlyRate\": 1}') WHERE line->'changes' = '{\"description\": \"changed in PEMS\"}'",
        'I3 I8', qr/wrote PFA-2\.monthlyRate = 4002 over 1, which was 5500 at the base version 1/ ],
    'a write whose base PEMS never had' => [ "UPDATE pfa_write_queue SET base_version = 77 WHERE id = '$item{2}'", 'I3', qr/which was unknown at the base version 77/ ],
    'a write on an old version' => [ "UPDATE check_line SET line = line || '{\"version\": 1}' WHERE line->>'requestId' = '$item{2}:3'; UPDATE check_line SET line = jsonb_set(line, '{idempotencyKey}', '\"$item{2}:1\"') WHERE line->>'requestId' = '$item{2}:3'",
        'I3', qr/wrote on version 1 of RIO\/PFA-2, which was at 2/ ],
    'a later edit of another user that wrote the same field' => [ "UPDATE pfa_modification SET created_by = 'eve' WHERE id = '$ids{11}'; UPDATE check_line SET line = jsonb_set(line, '{changes}', '{\"monthlyRate\": 2}') || CASE WHEN line->>'kind' = 'change' THEN '{\"user\": \"eve\"}' ELSE '{\"modifiedBy\": \"eve\"}'::jsonb END WHERE line->'changes' = '{\"dor\": \"PROJECT\"}' AND line->>'pfaId' = 'PFA-1'; UPDATE pfa_write_queue SET payload = '{\"monthlyRate\": 2}' WHERE id = '$item{11}'",
        'I3 I8', qr/wrote PFA-1\.monthlyRate = 2 over 4001, which was 5500/ ],
    'a delete of what somebody changed' => [ "UPDATE pfa_write_queue SET operation = 'DELETE', payload = '{}' WHERE id = '$item{2}'; UPDATE check_line SET line = line || '{\"call\": \"delete\", \"method\": \"DELETE\", \"changes\": null, \"deleted\": true}' WHERE line->>'requestId' LIKE '$item{2}:%' AND line->>'method' = 'PUT' OR " . $change_of->(2) . "; UPDATE pems_audit_log SET http_method = 'DELETE' WHERE item_id = '$item{2}' AND http_method = 'PUT'",
        'I3 I8', qr/deleted RIO\/PFA-2, which somebody had changed/ ],
    'a chain with a gap' => [ "UPDATE check_line SET line = line || '{\"fromVersion\": 5}' WHERE " . $change_of->(8), 'I3', qr/goes from version 5 to 2, but the record was at 1/ ],

    'two changes by one item' => [ $another->(8, qq({"requestId": "$item{8}:99", "version": 2, "idempotencyKey": "$item{8}:2"}), '') . "INSERT INTO check_line SELECT log, line || jsonb_build_object('seq', (SELECT max((line->>'seq')::bigint) + 1 FROM check_line), 'fromVersion', 2, 'toVersion', 3, 'requestSeq', (SELECT max((line->>'seq')::bigint) FROM check_line)) FROM check_line WHERE " . $change_of->(8),
        'I1 I4 I6', qr/item \Q$item{'8'}\E changed PEMS 2 times: versions 2, 3/ ],

    'a second write without a look' => [ "UPDATE check_line SET line = jsonb_set(line, '{call}', '\"update\"') || jsonb_build_object('method', 'PUT', 'version', 1, 'changes', '{\"monthlyRate\": 4006}'::jsonb, 'modifiedBy', 'user\@example.com', 'idempotencyKey', '$item{6}:1') WHERE line->>'requestId' = '$item{6}:2'; UPDATE pems_audit_log SET http_method = 'PUT', event_type = 'WRITE_ATTEMPT' WHERE item_id = '$item{6}' AND attempt = 2",
        'I4', qr/\Q$item{'6'}\E:2 was written again, without a look after \Q$item{'6'}\E:1/ ],
    'a look that comes too soon' => [ "UPDATE check_line SET line = line || jsonb_build_object('at', (line->>'at')::timestamptz + interval '1 second') WHERE line->>'requestId' = '$item{6}:1'; UPDATE pems_audit_log SET at = at + interval '1 second' WHERE item_id = '$item{6}' AND attempt = 1",
        'I4', qr/\Q$item{'6'}\E:2 looked for the outcome of \Q$item{'6'}\E:1 after only/ ],

    'the other order' => [ "UPDATE pfa_write_queue SET commit_seq = -commit_seq WHERE pfa_id = 'PFA-1'", 'I5', qr/reached PEMS after item/ ],
    'a request before the last one was recorded' => [ "UPDATE pems_audit_log SET at = at + interval '10 seconds' WHERE item_id = '$item{6}' AND attempt = 1", 'I5', qr/was sent before the outcome of \Q$item{'6'}\E:1 was recorded/ ],
    'a held item that was sent' => [ $another->(11, qq({"requestId": "$item{12}:1", "idempotencyKey": "$item{12}:2", "pfaId": "PFA-5", "status": 422, "applied": false}), ''), 'I5 I6', qr/was sent while item \Q$item{'5'}\E, committed earlier, was not finished/ ],

    'an attempt that is not in the audit log' => [ "DELETE FROM pems_audit_log WHERE item_id = '$item{8}' AND attempt = 1", 'I6', qr/request \Q$item{'8'}\E:1 is in the audit log 0 times/ ],
    'an attempt that is there twice' => [ "INSERT INTO pems_audit_log SELECT * FROM pems_audit_log WHERE item_id = '$item{8}' AND attempt = 1", 'I6', qr/request \Q$item{'8'}\E:1 is in the audit log 2 times/ ],
    'an attempt with another status' => [ "UPDATE pems_audit_log SET http_status = 201 WHERE item_id = '$item{10}' AND attempt = 1", 'I6', qr/was a PUT with status 200, the audit log says PUT with 201/ ],
    'an answer to a request that was never made' => [ "INSERT INTO pems_audit_log SELECT at, event_type, organization_id, pfa_id, modification_id, item_id, job_id, conflict_id, actor, 9, http_method, path, http_status, latency_ms, request, response FROM pems_audit_log WHERE item_id = '$item{10}' AND attempt = 1",
        'I6', qr/attempt \Q$item{'10'}\E:9 got status 200, but no such request arrived/ ],
    'a request that the log of PEMS does not have' => [ "DELETE FROM check_line WHERE line->>'requestId' = '$item{6}:2'", 'I4 I6 log', qr/got status 200, but no such request arrived/ ],
    'a failure without a reason' => [ "DELETE FROM check_line WHERE line->>'requestId' = '$item{9}:1'; UPDATE pems_audit_log SET error_code = NULL WHERE item_id = '$item{9}' AND attempt = 1", 'I6 log', qr/never arrived, and its error is none/ ],
    'an attempt that nobody knows of' => [ "UPDATE pfa_write_queue SET attempt = attempt + 1 WHERE id = '$item{8}'", 'I6', qr/of 4 attempts of item/ ],
    'a request that arrived twice' => [ $another->(5, '{}', ''), 'I6', qr/request \Q$item{'5'}\E:1 arrived 2 times/ ],
    'a conflict that is not in the audit log' => [ "DELETE FROM pems_audit_log WHERE event_type = 'CONFLICT_DETECTED'", 'I6', qr/has 0 lines CONFLICT_DETECTED/ ],

    'a transaction that stays open' => [ "CREATE TEMP TABLE pg_stat_activity AS SELECT * FROM pg_catalog.pg_stat_activity; UPDATE pg_stat_activity SET xact_start = now() - interval '1 minute' WHERE backend_type LIKE 'pems_sync%'",
        'I7', qr/has had a transaction open/ ],

    'another value in the mirror' => [ "$quiet_triggers UPDATE pfa_mirror SET data = data || '{\"monthlyRate\": 1}' WHERE pfa_id = 'PFA-8'", 'I8', qr/at version 2 PEMS has \{"monthlyRate": 4008\}, the mirror \{"monthlyRate": 1\}/ ],
    'a field less in the mirror' => [ "$quiet_triggers UPDATE pfa_mirror SET data = data - 'purchasePrice' WHERE pfa_id = 'PFA-8'", 'I8', qr/PEMS has \{"purchasePrice": null\}, the mirror /, ],
    'another version in the mirror' => [ "$quiet_triggers UPDATE pfa_mirror SET version = 1 WHERE pfa_id = 'PFA-8'", 'I8', qr/PEMS has version 2, the mirror 1/ ],
    'a mirror that does not know of a delete' => [ "UPDATE pfa_mirror SET deleted_at = NULL WHERE pfa_id = 'PFA-7'", 'I8', qr/deleted is t in PEMS, f in the mirror/ ],
    'no mirror' => [ "$quiet_triggers DELETE FROM pfa_mirror WHERE pfa_id = 'PFA-8'", 'I8', qr/has no mirror/ ],
    'a history that PEMS never had' => [ "UPDATE pems_mirror_version SET data = data || '{\"monthlyRate\": 3}' WHERE pfa_id = 'PFA-8' AND version = 2", 'I8', qr/the history of version 2 is not what PEMS had/ ],
    'a version that the history does not have' => [ "DELETE FROM pems_mirror_version WHERE pfa_id = 'PFA-8' AND version = 2", 'I8', qr/is at version 2, and the history does not have it/ ],

    'an item that is unfinished' => [ "UPDATE pfa_write_queue SET status = 'pending', waits_for = NULL WHERE id = '$item{5}'; UPDATE pfa_modification SET sync_status = 'queued' WHERE id = '$ids{5}'", 'quiet', qr/is still pending/ ],
    'statistics that are off' => [ 'INSERT INTO pems_sync_stats (organization_id, hour, failed) VALUES (\'org-rio\', now(), 1)', 'counts', qr/failed is 2 in the statistics and 1 in the queue/ ],
    'a log that was reset' => [ "INSERT INTO check_line SELECT 1, jsonb_build_object('kind', 'reset', 'seq', (SELECT max((line->>'seq')::bigint) + 1 FROM check_line))", 'log', qr/was reset/ ]);

while (my ($name, $wrong) = splice @wrong, 0, 2)
{
    my ($sql, $expected, $finding) = @$wrong;
    my ($status, $objections, $text) = examine("$sql;");
    is("$status $objections", "1 $expected", "$name: it objects to $expected") or diag($text);
    like($text, $finding, "$name: and says why");
}

# ---- what looks different and is the same ----

my @same = (
    'a number with other digits' => "$quiet_triggers UPDATE pfa_mirror SET data = data || '{\"monthlyRate\": 4008.00}' WHERE pfa_id = 'PFA-8'; UPDATE pems_mirror_version SET data = data || '{\"monthlyRate\": 4008.00}' WHERE pfa_id = 'PFA-8' AND version = 2",
    'an instant in another zone' => "$quiet_triggers UPDATE pfa_mirror SET data = data || '{\"forecastStart\": \"2025-01-15T01:00:00+01:00\"}' WHERE pfa_id = 'PFA-8'; UPDATE pems_mirror_version SET data = data || '{\"forecastStart\": \"2025-01-15T01:00:00+01:00\"}' WHERE pfa_id = 'PFA-8' AND version = 2",
    'a record that we did not touch' => "$quiet_triggers UPDATE pems_sync_stats SET completed = completed");
while (my ($name, $sql) = splice @same, 0, 2)
{
    my ($status, $objections, $text) = examine("$sql;");
    is("$status $objections", '0 ', "$name: it is content") or diag($text);
}

# ---- when it cannot look ----

is((examine('SELECT nonsense;'))[0], 2, 'exit status 2 when its SQL fails');
my ($log) = map { $command[ $_ + 1 ] } grep { $command[$_] eq '--log' } 0 .. $#command;
my $damaged = $t->directory . '/damaged.jsonl';
append_to_file($damaged, join "\n", map { s/"version":1/"version":one/r } split /\n/, slurp_file($log));
is((examine(undef, '--log', $damaged))[0], 2, 'exit status 2 when the log cannot be read');
is((examine(undef, '--log', "$damaged.missing"))[0], 2, 'or is not there');

$t->finish;
