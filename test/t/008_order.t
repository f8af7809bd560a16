# Order: edits of one record go one at a time and in commit order, whatever else is said; other
# records never wait for it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('ordered', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 3, poll_interval => '1h' });
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "PFA-$_" } 1 .. 20);

# The writes of a record that PEMS applied, in its order: "field=value, ..."
sub applied
{
    my ($pfa_id) = @_;
    my @changes = map { $_->{changes} } $fake->changes(pfaId => $pfa_id, by => 'client');
    return join ', ', map { my $c = $_; $c ? map { "$_=$c->{$_}" } sort keys %$c : 'delete' } @changes;
}

# The item that holds this one back, by its modification.
sub held_by
{
    my ($id) = @_;
    return $t->sql("SELECT h.modification_id FROM pems_queue q JOIN pfa_write_queue h ON h.id = q.held_by WHERE q.modification_id = '$id'");
}

# ---- two edits of one record in one call ----

my @pair = $t->edits('RIO', [ 'PFA-1', { monthlyRate => 1 } ], [ 'PFA-1', { monthlyRate => 2 } ]);
$t->commit('RIO', \@pair);
ok($t->wait_status($_, 'synced'), 'both edits of a record arrive') for @pair;
is(applied('PFA-1'), 'monthlyRate=1, monthlyRate=2', 'one after the other, and the second is no conflict with the first');
is_deeply([ map { $_->{version} } $fake->requests(pfaId => 'PFA-1') ], [ 1, 2 ], 'each on the version before it');

# ---- priority, and a slow first ----

$fake->fault({ pfaId => 'PFA-2', delayMs => 8000, count => 1 });
my $low = $t->edit('RIO', 'PFA-2', { monthlyRate => 1 });
$t->commit('RIO', [$low], priority => 'low');
ok($t->wait_until(sub { $t->item($low)->{status} eq 'processing' }, what => 'a request'), 'a low edit is under way');
my $high = $t->edit('RIO', 'PFA-2', { monthlyRate => 2 });
$t->commit('RIO', [$high], priority => 'high');
is($t->item($high)->{waits_for}, 'turn', 'a high one of the same record waits for its turn');
is(held_by($high), $low, 'and pems_queue says for whom');
ok($t->wait_status($high, 'synced'), 'it gets its turn');
is(applied('PFA-2'), 'monthlyRate=1, monthlyRate=2', 'and does not overtake');

# In one batch: high first among records, commit order within one.
my @batch = map { $t->edit('RIO', "PFA-$_->[0]", { monthlyRate => $_->[1] }) } [ 3, 1 ], [ 3, 2 ], [ 3, 3 ];
$t->sql('BEGIN; ' . join('; ', map { PemsSync::Test::commit_statement('RIO', [ $batch[$_] ], priority => (qw(low normal high))[$_]) } 0 .. 2) . '; COMMIT;');
ok($t->wait_status($batch[2], 'synced'), 'three edits with rising priority');
is(applied('PFA-3'), 'monthlyRate=1, monthlyRate=2, monthlyRate=3', 'keep their order');

# ---- a retry ----

$t->set(retry_delay => '8s');
$fake->fault({ pfaId => 'PFA-4', status => 500, count => 1 });
my $retried = $t->commit_edit('RIO', 'PFA-4', { monthlyRate => 1 });
my $behind  = $t->commit_edit('RIO', 'PFA-4', { monthlyRate => 2 });
ok($t->wait_for("SELECT waits_for = 'time' FROM pfa_write_queue WHERE modification_id = '$retried'"), 'the first edit waits for its retry');
is($t->item($behind)->{attempt}, 0, 'the second is not tried meanwhile');
$t->sql("SELECT pems_write_sync('org-rio', ARRAY['$behind'], 'high')");
is($t->item($behind)->{waits_for}, 'turn', 'nor does pems_write_sync push it past');
ok($t->wait_status($behind, 'synced'), 'it follows');
is(applied('PFA-4'), 'monthlyRate=1, monthlyRate=2', 'in order');
$t->set(retry_delay => '100ms');

# ---- a dead letter, a conflict ----

$fake->fault({ pfaId => 'PFA-5', status => 422, count => 1 });
my $dead = $t->commit_edit('RIO', 'PFA-5', { monthlyRate => 1 });
my $next = $t->commit_edit('RIO', 'PFA-5', { monthlyRate => 2 });
my $last = $t->commit_edit('RIO', 'PFA-5', { dor => 'PROJECT' });
$fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-6', changes => { monthlyRate => 9 } });
my $clash  = $t->commit_edit('RIO', 'PFA-6', { monthlyRate => 8 });
my $later  = $t->commit_edit('RIO', 'PFA-6', { dor => 'PROJECT' });
my $others = $t->commit_edit('RIO', 'PFA-7', { monthlyRate => 1 });
ok($t->wait_status($dead, 'failed'), 'an edit is rejected');
ok($t->wait_status($clash, 'conflict'), 'another is in conflict');
ok($t->wait_status($others, 'synced'), 'other records go on');
is(join(' ', map { held_by($_) } $next, $last, $later), "$dead $next $clash", 'later edits of their records are held');
is(decode_json($t->sql("SELECT pems_sync_status('org-rio')"))->{held}, 3, 'the status counts them');
is($t->sql("SELECT sum(attempt) FROM pfa_write_queue WHERE modification_id IN ('$next', '$last', '$later')"), '0', 'none was tried');

is(decode_json($t->sql("SELECT pems_discard('$dead', 'boss')"))->{outcome}, 'cancelled', 'the dead letter is discarded');
ok($t->wait_status($last, 'synced'), 'what it held goes on');
is(applied('PFA-5'), 'monthlyRate=2, dor=PROJECT', 'in order');
is($t->modification($dead)->{sync_status}, 'discarded', 'the discarded edit says so');
is(decode_json($t->sql("SELECT pems_discard('$clash')"))->{outcome}, 'cancelled', 'the edit in conflict is discarded');
ok($t->wait_status($later, 'synced'), 'what it held goes on, too');
is(applied('PFA-6'), 'dor=PROJECT', 'PEMS keeps the other value');
is(decode_json($t->sql("SELECT pems_sync_status('org-rio')"))->{held}, 0, 'nothing is held any more');

# ---- discard of what waits, and of what is under way ----

$fake->fault({ pfaId => 'PFA-8', delayMs => 3000, count => 1 });
my @row = $t->edits('RIO', map { [ 'PFA-8', { monthlyRate => $_ } ] } 1 .. 3);
$t->commit('RIO', \@row);
ok($t->wait_until(sub { $t->item($row[0])->{status} eq 'processing' }, what => 'a request'), 'the first of three is under way');
is(decode_json($t->sql("SELECT pems_discard('$row[0]')"))->{outcome}, 'in_flight', 'it is too late to discard it');
is(decode_json($t->sql("SELECT pems_discard('$row[1]')"))->{outcome}, 'cancelled', 'the second is discarded');
ok($t->wait_status($row[2], 'synced'), 'the third follows the first');
is(applied('PFA-8'), 'monthlyRate=1, monthlyRate=3', 'without the second');
is($t->modification($row[0])->{sync_status}, 'synced', 'the result of the first is recorded');

# A modification that is deleted lets its successors go; one in flight cannot be deleted.
$fake->fault({ pfaId => 'PFA-9', delayMs => 3000, count => 1 });
@row = $t->edits('RIO', map { [ 'PFA-9', { monthlyRate => $_ } ] } 1 .. 3);
$t->commit('RIO', \@row);
ok($t->wait_until(sub { $t->item($row[0])->{status} eq 'processing' }, what => 'a request'), 'again the first of three is under way');
like($t->sql_error("DELETE FROM pfa_modification WHERE id = '$row[0]'"), qr/^55000: /, 'it cannot be deleted');
is($t->sql_error("DELETE FROM pfa_modification WHERE id = '$row[1]'"), '', 'the second can');
ok($t->wait_status($row[2], 'synced'), 'the third follows the first');
is(applied('PFA-9'), 'monthlyRate=1, monthlyRate=3', 'without the second');

# ---- other users ----

my $ann = $t->edit('RIO', 'PFA-10', { monthlyRate => 1 }, by => 'ann');
my $bob = $t->edit('RIO', 'PFA-10', { dor => 'PROJECT' }, by => 'bob');
my $cid = $t->edit('RIO', 'PFA-10', { monthlyRate => 3 }, by => 'cid');
$t->commit('RIO', [ $ann, $bob, $cid ]);
ok($t->wait_status($cid, 'conflict'), 'two users changed one field: the later is a conflict');
ok($t->wait_status($bob, 'synced'), 'who changed another field is merged');
is(applied('PFA-10'), 'monthlyRate=1, dor=PROJECT', 'PEMS has both, and not the third');
is_deeply($t->conflict($cid)->{conflict_fields}, ['monthlyRate'], 'the conflict names the field');

# ---- delete behind update, update behind delete ----

my @end = ($t->edit('RIO', 'PFA-11', { monthlyRate => 1 }), $t->edit('RIO', 'PFA-11', {}, operation => 'DELETE'), $t->edit('RIO', 'PFA-11', { monthlyRate => 3 }));
$t->commit('RIO', \@end);
ok($t->wait_status($end[1], 'synced'), 'a delete behind an edit of the same user is no conflict');
ok($t->wait_status($end[2], 'conflict'), 'an edit behind a delete is one');
is($t->conflict($end[2])->{kind}, 'deleted_in_pems', 'of that kind');
is(applied('PFA-11'), 'monthlyRate=1, delete', 'in order');

# ---- two sessions that commit at the same time, in the other order ----

my ($slow, $quick) = $t->edits('RIO', [ 'PFA-12', { monthlyRate => 1 } ], [ 'PFA-12', { dor => 'PROJECT' } ]);
my $session = $t->node->background_psql('postgres');
$session->query_safe('BEGIN; ' . PemsSync::Test::commit_statement('RIO', [$slow]));
$t->commit('RIO', [$quick]);
ok($t->wait_status($quick, 'synced'), 'a commit does not wait for a session that has not committed yet');
$session->query_safe('COMMIT');
$session->quit;
ok($t->wait_status($slow, 'synced'), 'whose edit follows');

# ---- the next in the row is locked by a session that changes its mind ----

$fake->fault({ pfaId => 'PFA-13', status => 422, count => 1 });
my ($first, $second) = $t->edits('RIO', map { [ 'PFA-13', { monthlyRate => $_ } ] } 1, 2);
$t->commit('RIO', [ $first, $second ]);
ok($t->wait_status($first, 'failed'), 'a dead letter holds an edit');
my $undecided = $t->node->background_psql('postgres');
$undecided->query_safe("BEGIN; SELECT FROM pfa_write_queue WHERE modification_id = '$second' FOR UPDATE");
$t->sql("SELECT pems_discard('$first')");
ok($t->wait_for('SELECT EXISTS (SELECT FROM pems_recheck)'), 'the dead letter is discarded, but what it held is locked');
$t->is_calm('while it is');
$undecided->query_safe('ROLLBACK');
$undecided->quit;
ok($t->wait_status($second, 'synced'), 'when the lock is gone it goes, although nobody says so');

# ---- many held items ----

$fake->fault({ pfaId => 'PFA-20', status => 422, count => 1 });
my @crowd = $t->edits('RIO', map { [ 'PFA-20', { monthlyRate => $_ } ] } 1 .. 500);
$t->commit('RIO', \@crowd);
ok($t->wait_status($crowd[0], 'failed'), '499 edits are held by a dead letter');
is(decode_json($t->sql("SELECT pems_sync_status('org-rio')"))->{held}, 499, 'all of them');
$t->sql("SELECT pems_discard('$crowd[0]')");
ok($t->wait_status($crowd[499], 'synced'), 'the 499 follow when they may');
is(applied('PFA-20'), join(', ', map { "monthlyRate=$_" } 2 .. 500), 'one by one, in order');

$fake->fault({ pfaId => 'PFA-19', status => 422, count => 1 });
@crowd = $t->edits('RIO', map { [ 'PFA-19', { monthlyRate => $_ } ] } 1 .. 10_000);
$t->commit('RIO', \@crowd);
ok($t->wait_status($crowd[0], 'failed'), '9,999 edits are held by a dead letter');
is(decode_json($t->sql("SELECT pems_sync_status('org-rio')"))->{held}, 9_999, 'all of them');

# Others do not pay for it: counted in blocks of the queue, one edit per claim.
my $looked = "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit FROM pg_statio_user_tables WHERE relname = 'pfa_write_queue'";
my @others = $t->load_many('RIO', 'FREE-', 100);
my @free   = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @others);
$t->set(batch_size => 1);
my $before = $t->sql($looked);
$t->commit('RIO', \@free);
# asked of another table: the question must not count
ok($t->wait_for("SELECT count(*) = 100 FROM pfa_modification WHERE pfa_id LIKE 'FREE-%' AND sync_status = 'synced'"), '100 edits of other records arrive');
$t->is_calm('while 9,999 edits are held');
my $per_edit = ($t->sql($looked) - $before) / @free;
my $held     = $t->sql("SELECT pg_relation_size('pfa_write_queue') / current_setting('block_size')::integer");
cmp_ok($per_edit, '<', $held / 2, 'and none of them looks through the held ones') or diag("$per_edit of $held blocks");

$t->finish;
