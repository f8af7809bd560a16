# Retries and dead letters: how often, how long apart, and what is left when they are used up.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('retries', settings => { rate_limit => 0, retry_delay => '400ms', max_retries => 3, poll_interval => '1h' });
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "PFA-$_" } 1 .. 9);
my $position = $t->log_position;

# Moments of the attempts of an edit with that error, in seconds.
sub moments
{
    my ($id, $error_code) = @_;
    return map { $_->{at_epoch} } grep { ($_->{error_code} // '') eq $error_code } $t->audit($id);
}

# ---- begun here, looked at below ----

# A server error of a write: after each a read, at least two seconds later, and the write again.
$fake->fault({ pfaId => 'PFA-1', call => 'update', status => 500 });
my $dead = $t->commit_edit('RIO', 'PFA-1', { monthlyRate => 1 });
my $held = $t->commit_edit('RIO', 'PFA-1', { dor => 'PROJECT' });

# A server error of a read that no lost write went before: nothing but the backoff lies between.
$fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', changes => { description => 'changed in PEMS' } });
$fake->fault({ pfaId => 'PFA-2', call => 'read', status => 500 });
my $backoff = $t->commit_edit('RIO', 'PFA-2', { monthlyRate => 2 });

# Three errors are survived by three retries.
$fake->fault({ pfaId => 'PFA-3', call => 'update', status => 500, count => 3 });
my $survivor = $t->commit_edit('RIO', 'PFA-3', { monthlyRate => 3 });

# A lost answer, and then no answer to the question what became of it.
$fake->fault({ pfaId => 'PFA-4', call => 'update', emptyBody => JSON::PP::true }, { pfaId => 'PFA-4', call => 'read', status => 500 });
my $unknown = $t->commit_edit('RIO', 'PFA-4', { monthlyRate => 4 });

# One in four requests fails: nobody comes to harm, others do not wait.
my @many = $t->load_many('RIO', 'MANY-', 40);
my %unlucky = map { $_ => 1 } @many[ grep { $_ % 4 == 0 } 0 .. 39 ];
$fake->fault(map { { pfaId => $_, status => 500, count => 1 } } sort keys %unlucky);
$t->commit('RIO', [ $t->edits('RIO', map { [ $_, { monthlyRate => 5 } ] } @many) ]);
ok($t->wait_for("SELECT count(*) = 30 FROM pfa_write_queue WHERE pfa_id LIKE 'MANY-%' AND status = 'completed' AND retry_count = 0", timeout => 2),
    'those that had no trouble do not wait for those that had');
$t->is_calm('while items wait for their retries');

# ---- used up ----

ok($t->wait_status($backoff, 'failed'), 'an item whose reads fail becomes a dead letter');
is($t->attempts($backoff), 'PUT 409 VERSION_CONFLICT' . ', GET 500 SERVER_ERROR' x 4, 'after three retries');
my @at = moments($backoff, 'SERVER_ERROR');
for my $retry (1 .. 3)
{
    my $gap    = $at[$retry] - $at[ $retry - 1 ];
    my $wanted = 0.4 * 2**($retry - 1);
    cmp_ok($gap, '>=', $wanted * 0.9, "retry $retry comes no sooner than $wanted s less 10 %");
    cmp_ok($gap, '<=', $wanted * 1.1 + 1, "and not much later than 10 % more");
}

ok($t->wait_status($dead, 'failed'), 'an item whose writes fail becomes a dead letter');
is($t->attempts($dead), 'PUT 500 SERVER_ERROR, GET 200, ' x 3 . 'PUT 500 SERVER_ERROR', 'after three retries, each with a read before');
is(scalar $fake->requests(pfaId => 'PFA-1', method => 'PUT'), 4, 'PEMS saw four writes: no retry loop hides in another');
is(scalar $fake->changes(pfaId => 'PFA-1', by => 'client'), 0, 'and applied none');
my $item = $t->item($dead);
is_deeply([ @$item{qw(status retry_count max_retries error_code outcome_unknown)} ], [ 'failed', 3, 3, 'SERVER_ERROR', JSON::PP::true ], 'the item');
like($item->{last_error}, qr/500/, 'says what PEMS said');
is($t->modification($dead)->{sync_error}, $item->{last_error}, 'the modification, too');
my $letter = $t->row("SELECT * FROM pems_dead_letters WHERE id = '$item->{id}'");
is_deeply([ @$letter{qw(pfa_id error_code retry_count holding)} ], [ 'PFA-1', 'SERVER_ERROR', 3, 1 ], 'the dead letter in its view');
is($t->item($held)->{waits_for}, 'turn', 'it holds the later edit of its record');
like($t->log_since($position), qr/WARNING:  pems_sync: an edit of PFA record "PFA-1" failed for good\n.*DETAIL:  Item \Q$item->{id}\E: .*500/,
    'a WARNING in the log');

ok($t->wait_status($survivor, 'synced'), 'an item with three errors is synced in the end');
is($t->item($survivor)->{retry_count}, 3, 'with its last retry');
is($t->item($survivor)->{error_code}, undef, 'and forgets its errors');

ok($t->wait_status($unknown, 'failed'), 'an item whose outcome cannot be found out becomes a dead letter');
is($t->item($unknown)->{outcome_unknown}, JSON::PP::true, 'which says that PEMS may have it');
is($t->item($unknown)->{next_request}, 'read', 'and will be read first, should somebody redrive it');
is(scalar $fake->requests(pfaId => 'PFA-4', method => 'PUT'), 1, 'there was no blind second write');

ok($t->wait_for("SELECT count(*) = 40 FROM pfa_modification WHERE pfa_id LIKE 'MANY-%' AND sync_status = 'synced'"), 'the many are all synced');
my $status = decode_json($t->sql("SELECT pems_sync_status('org-rio')"));
is_deeply([ @$status{qw(failed held completed conflicts health)} ], [ 3, 1, 41, 0, 'degraded' ], 'the status adds up');

# ---- another number of retries ----

$t->set(max_retries => 0);
$t->wait_for("SELECT current_setting('pems_sync.max_retries') = '0'");
$fake->fault({ pfaId => 'PFA-5', status => 500 });
my $once = $t->commit_edit('RIO', 'PFA-5', { monthlyRate => 6 });
ok($t->wait_status($once, 'failed'), 'with max_retries = 0 the first error is the last');
is($t->attempts($once), 'PUT 500 SERVER_ERROR', 'there was one attempt');

$t->finish;
