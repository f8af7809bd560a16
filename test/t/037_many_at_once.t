# What a session does to thousands of items at once, the worker takes in steps: an edit of another organization does not
# wait for all of them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

use constant MANY => 3000;

my $t = PemsSync::Test->new('many', settings => { rate_limit => 0, poll_interval => '1h' });
$t->add_organization('RIO');
$t->add_organization('HOU');
my @pfa_ids = $t->load_many('RIO', 'PFA-', MANY);
$t->load('HOU', 'HOU-1', 'HOU-2');
$t->wait_worker;

# Nothing of RIO is claimed, so each row was written last by the transaction that made its item ready.
$t->sql("SELECT pems_pause('org-rio')");
my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @pfa_ids);
$t->commit('RIO', \@ids);

# One test: how many items of RIO one transaction of the worker has written.
sub steps_are_bounded
{
    my ($name) = @_;
    ok($t->wait_for("SELECT count(*) = " . MANY . " FROM pfa_write_queue WHERE organization_id = 'org-rio' AND status = 'pending' AND waits_for IS NULL"), "$name: all are ready");
    my $most = $t->sql("SELECT max(n) FROM (SELECT count(*) AS n FROM pfa_write_queue WHERE organization_id = 'org-rio' GROUP BY xmin) s");
    cmp_ok($most, '<=', 500, "$name: in steps of 500 at most");
    return;
}

$t->sql("UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE organization_id = 'org-rio'");
my ($other) = $t->edits('HOU', [ 'HOU-1', { monthlyRate => 2 } ]);
$t->sql('SELECT pems_retry()');
$t->commit('HOU', [$other]);
ok($t->wait_status($other, 'synced', timeout => 5), 'another organization does not wait');
steps_are_bounded('pems_retry');

$t->sql("UPDATE pfa_write_queue SET waits_for = 'time', scheduled_at = now() - interval '1 second' WHERE organization_id = 'org-rio'");
($other) = $t->edits('HOU', [ 'HOU-2', { monthlyRate => 2 } ]);
$t->commit('HOU', [$other]);
ok($t->wait_status($other, 'synced', timeout => 5), 'nor when the time of thousands has come');
steps_are_bounded('due items');

# ---- what a dead worker left ----

$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now');
$t->sql("UPDATE pfa_write_queue SET status = 'processing', attempt = attempt + 1 WHERE organization_id = 'org-rio'");
my $pid = $t->worker->{pid};
$t->sql("SELECT pg_terminate_backend($pid)");
ok($t->wait_for('SELECT count(*) = ' . MANY . " FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN'"), 'the next worker takes up what one left');
cmp_ok($t->sql("SELECT max(n) FROM (SELECT count(*) AS n FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN' GROUP BY xmin) s"), '<=', 1000, 'in steps of 1000 at most');
$t->node->stop('fast');
done_testing();
