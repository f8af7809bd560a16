# kill -9 of the worker, and immediate stops of the server, at random moments while 300 edits are on their
# way: all arrive, none twice, and the audit log knows every attempt.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;
use Time::HiRes qw(sleep);

# Printed, so that a run that failed can be done again: SEED=... prove ...
my $seed = $ENV{SEED} // time ^ $$;
$seed = int $seed;
srand $seed;
note "SEED=$seed";

use constant { ITEMS => 300, KILLS => 4, STOPS => 2 };
# The contract: items are taken up within five seconds of the worker's start.
use constant TAKEN_UP => 5;
# What a noisy machine may add to that.
use constant SLACK => 10;

my $t = PemsSync::Test->new('crash', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 10, max_in_flight => 8, batch_size => 16 });
$t->add_organization('RIO');
my $fake    = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', ITEMS - 50);

# Every answer takes its time, some before and some after the effect, so that a kill finds requests in every state.
$fake->fault({ probability => 0.5, seed => $seed % 1000, delayMs => 100 }, { delayAfterApplyMs => 100 });

# Edits of 250 records, and second ones of 50 of them; one record in ten is edited in PEMS, too.
my @ids = $t->edits('RIO', (map { [ $_, { monthlyRate => 1000 } ] } @pfa_ids), map { [ $_, { dor => 'PROJECT' } ] } @pfa_ids[ 0 .. 49 ]);
$fake->edit(map { { organizationCode => 'RIO', pfaId => $pfa_ids[$_], changes => { description => 'changed in PEMS' } } } grep { $_ % 10 == 0 } 0 .. $#pfa_ids);
$t->commit('RIO', \@ids);

my %started;    # round => start of the worker that came after its crash
for my $round (1 .. KILLS + STOPS)
{
    ok($t->wait_worker, "round $round: a worker runs");
    my $worker = $t->worker;
    my $mark   = $fake->mark;
    # something is under way, and then a random moment later
    $t->wait_until(sub { $fake->mark > $mark + rand 20 || $t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'pending'") eq '0' }, what => 'requests');
    sleep rand 0.03;
    if ($round <= KILLS)
    {
        ok(kill('KILL', $worker->{pid}), "round $round: kill -9 of the worker");
        # The postmaster starts all processes anew.
        $t->wait_until(sub { !kill 0, $worker->{pid} }, what => 'the end of the worker');
        $t->wait_for_server;
    }
    else
    {
        $t->node->stop('immediate');
        $t->node->start;
        pass("round $round: the server is stopped at once and started again");
    }
    ok($t->wait_worker(not_pid => $worker->{pid}), "round $round: another worker runs");
    $started{$round} = $t->sql("SELECT started_at FROM pems_worker WHERE state = 'running'");
}

ok($t->quiet(timeout => 60), 'all work is done');

# ---- what was under way was taken up in time ----

my %requests = map { $_->{requestId} => $_ } $fake->requests;
my $orphans  = 0;
my $hits     = 0;
for my $round (sort keys %started)
{
    my $until = $started{ $round + 1 } // 'infinity';
    my @lost = $t->rows("SELECT item_id || ':' || attempt + 1 AS next FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN'"
          . " AND at > '$started{$round}' AND at < '$until'");
    my @next = map { $requests{ $_->{next} } } @lost;
    $orphans += @lost;
    $hits++ if @lost;
    # A crash may have come before the next request, too; then the round after looks for it.
    my @at = map { "'$_->{at}'" } grep { defined && $t->sql("SELECT '$_->{at}' < '$until'") eq 't' } @next;
    my $seconds = @at ? $t->sql("SELECT extract(epoch FROM max(at) - '$started{$round}') FROM unnest(ARRAY[" . join(', ', @at) . ']::timestamptz[]) at') : 0;
    cmp_ok($seconds, '<', TAKEN_UP + SLACK, "round $round: " . @lost . ' requests were under way, and taken up in time');
}
# on a busy machine some rounds find nothing under way
cmp_ok($hits, '>=', 1, "the crashes hit requests under way: $orphans in $hits rounds");

# ---- the end ----

is($t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = 'synced'"), ITEMS, 'every edit is synced');
is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'completed'"), ITEMS, 'every item completed');
my %times;
$times{ $_->{requestSeq} }++ for $fake->changes(by => 'client');
my %by_item;
$by_item{ ($_->{requestId} =~ /^(.*):/)[0] }++ for grep { $times{ $_->{seq} } } $fake->requests;
is(scalar(keys %by_item), ITEMS, 'PEMS has a change of each item');
is(scalar(grep { $_ > 1 } values %by_item), 0, 'and of none two');
is($t->sql("SELECT count(*) FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN'"), $orphans, 'each lost attempt has its line in the audit log');

diag("SEED=$seed") if !Test::More->builder->is_passing;
$t->finish;
