# Nobody waits for another's crowd: organizations take turns at an endpoint, and an endpoint that hangs takes nothing
# from another.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(time);

# The contract: two seconds behind a crowd of another organization, whose own edits take half a minute; the rest is for a noisy machine.
use constant TURN   => 15;
use constant PROMPT => 30;

my $t = PemsSync::Test->new('fair', settings => { rate_limit => 10, poll_interval => '1h', retry_delay => '100ms', request_timeout => '10min' });
$t->add_organization($_) for qw(CROWD RIO LIMA);
my $fake = $t->fake;

# ---- organizations on one endpoint ----

my @crowd = $t->load_many('CROWD', 'PFA-', 300);
$t->load($_, 'PFA-1', 'PFA-2') for qw(RIO LIMA);
my @ids = $t->edits('CROWD', map { [ $_, { monthlyRate => 1 } ] } @crowd);
$t->commit('CROWD', \@ids);
ok($t->wait_until(sub { $fake->requests(organizationCode => 'CROWD') >= 10 }, what => 'ten requests'), 'the crowd fills the limit');

for my $code (qw(RIO LIMA))
{
    my $id = $t->commit_edit($code, 'PFA-1', { monthlyRate => 1 });
    ok($t->wait_until(sub { $fake->requests(organizationCode => $code) > 0 }, what => 'its request', timeout => TURN), "$code: a single edit takes its turn");
    my ($request) = $fake->requests(organizationCode => $code);
    my $waited = $t->sql("SELECT extract(epoch FROM '$request->{at}' - created_at) FROM pfa_write_queue WHERE modification_id = '$id'");
    cmp_ok($waited, '<', TURN, "$code: soon");
    note "$code waited for $waited s";
    ok($t->wait_status($id, 'synced'), "$code: and is synced");
}
cmp_ok(scalar(my @sent = $fake->requests(organizationCode => 'CROWD')), '<', 200, 'most of the crowd still waits');

# A crowd of two organizations: both get their share.
$t->load_many('RIO', 'MORE-', 100);
my $mark = $fake->mark;
$t->commit('RIO', [ $t->edits('RIO', map { [ sprintf('MORE-%04d', $_), { monthlyRate => 1 } ] } 1 .. 100) ]);
ok($t->wait_until(sub { $fake->requests(since => $mark) >= 40 }, what => 'forty requests'), 'two crowds');
my %share;
$share{ $_->{organizationCode} }++ for ($fake->requests(since => $mark))[ 0 .. 39 ];
cmp_ok($share{$_} // 0, '>=', 12, "$_ has its share") for qw(CROWD RIO);

# ---- an endpoint that hangs ----

$t->set(rate_limit => 0);
ok($t->wait_for("SELECT NOT EXISTS (SELECT FROM pfa_write_queue WHERE status IN ('pending', 'processing'))"), 'without a limit the rest is soon done');
$t->add_fake('hanging');
$t->add_organization('STUCK', fake => 'hanging');
my @stuck = $t->load_many('STUCK', 'PFA-', 100);
my $hanging = $t->fake('hanging');
$hanging->fault({ hang => JSON::PP::true });
my @waiting = $t->edits('STUCK', map { [ $_, { monthlyRate => 2 } ] } @stuck);
$t->commit('STUCK', \@waiting);
ok($t->wait_until(sub { $hanging->stats->{waiting} >= 20 }, what => 'requests that hang'), 'an endpoint hangs with many requests');
my $start = time;
@ids = $t->edits('CROWD', map { [ $_, { monthlyRate => 2 } ] } @crowd[ 0 .. 49 ]);
$t->commit('CROWD', \@ids);
ok($t->wait_for("SELECT count(*) = 50 FROM pfa_modification WHERE sync_status = 'synced' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')'),
    'fifty edits of another endpoint arrive');
cmp_ok(time - $start, '<', PROMPT, 'promptly');
cmp_ok($hanging->stats->{waiting}, '<', 32, 'the one that hangs does not have all the slots');
$t->is_calm('while an endpoint hangs');

# It comes back: a new worker reads the records whose requests hang, and sends the edits again.
$hanging->clear_faults;
$t->sql('SELECT pg_terminate_backend(pid) FROM pems_worker');
ok($t->wait_for("SELECT count(*) = 100 FROM pfa_modification WHERE organization_id = 'org-stuck' AND sync_status = 'synced'"),
    'when it is well again its edits arrive');

# ---- two endpoints hang ----

$t->add_fake('also hanging');
$t->add_organization('STUCK2', fake => 'also hanging');
my @stuck2 = $t->load_many('STUCK2', 'PFA-', 100);
my %fault = map { $_ => ($t->fake($_)->fault({ hang => JSON::PP::true }))[0] } 'hanging', 'also hanging';
$t->commit('STUCK', [ $t->edits('STUCK', map { [ $_, { monthlyRate => 3 } ] } @stuck) ]);
$t->commit('STUCK2', [ $t->edits('STUCK2', map { [ $_, { monthlyRate => 3 } ] } @stuck2) ]);
ok($t->wait_until(sub { $hanging->stats->{waiting} >= 20 && $t->fake('also hanging')->stats->{waiting} >= 5 }, what => 'requests that hang'), 'two endpoints hang with many requests');
my $of_third = $t->commit_edit('LIMA', 'PFA-2', { monthlyRate => 3 });
ok($t->wait_status($of_third, 'synced', timeout => PROMPT), 'an edit of a third one arrives all the same');
$t->fake($_)->clear_faults($fault{$_}) for keys %fault;
# what hangs is not answered any more
$t->sql('SELECT pg_terminate_backend(pid, 5000) FROM pems_worker');
ok($t->quiet(timeout => 120), 'when they are well again their edits arrive');

$t->finish;
