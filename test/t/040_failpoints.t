# The worker dies, or the server is stopped at once, at each of the places where something is durable and
# something else is not yet.  Whatever the place: the edit arrives once, and every attempt is in the
# audit log.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no server with failpoints (make test builds one)' if !PemsSync::Test::has_failpoints();

# Place => was the write on its way to PEMS already?  0: no; 1: yes.
my @places = (
    [ claim_uncommitted  => 0, 'before the claim is committed' ],
    [ claim_committed    => 0, 'after the claim, before the request' ],
    [ request_sent       => 1, 'while the request is under way' ],
    [ answer_unrecorded  => 1, 'with the answer read, and not recorded' ],
    [ record_uncommitted => 1, 'with the outcome recorded, and not committed' ],
    [ record_in_commit   => 1, 'in the middle of the commit of the outcome' ],
    [ record_committed   => 1, 'after the outcome is committed' ]);
# Of those places: where the outcome is durable, nobody has to look.
my %durable = map { $_ => 1 } qw(record_in_commit record_committed);

my $t = PemsSync::Test->new('failpoints', failpoints => 1,
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 5, poll_interval => '1h' });
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "PFA-$_" } 0 .. 40);

# What the edit of a record looks like when all is over: its attempts in the audit log.
sub expected_attempts
{
    my ($place, $sent) = @_;
    return 'PUT 200'                               if $place eq 'claim_uncommitted' || $durable{$place};
    return 'PUT OUTCOME_UNKNOWN, GET 200, PUT 200' if !$sent;
    return 'PUT OUTCOME_UNKNOWN, GET 200';
}

# One edit, with the worker made to end at that place, and PEMS and audit log afterwards.
sub run_edit
{
    my ($number, $place, $sent, $action, $end) = @_;
    my $pfa_id = "PFA-$number";

    ok($t->wait_worker, 'a worker runs');
    # a connection that is there makes sure that a request leaves as soon as it is started
    my $before = $t->commit_edit('RIO', 'PFA-0', { monthlyRate => 1000 + $number });
    ok($t->wait_status($before, 'synced'), 'it works');
    my $worker = $t->worker->{pid};
    my $id = $t->edit('RIO', $pfa_id, { monthlyRate => 4000 + $number });
    $t->arm($place, $action);
    # a crash may come before this session has heard that its commit is done
    $t->sql_succeeds(PemsSync::Test::commit_statement('RIO', [$id]));
    ok($t->reached($place), 'the place is reached');
    $end->();
    ok($t->wait_worker(not_pid => $worker), 'another worker runs');
    ok($t->wait_status($id, 'synced'), 'the edit is synced');
    is(scalar($fake->changes(pfaId => $pfa_id, by => 'client')), 1, 'PEMS applied it once');
    is($fake->record('RIO', $pfa_id)->{data}{monthlyRate}, 4000 + $number, 'and has it');
    is($t->attempts($id), expected_attempts($place, $sent), 'every attempt is in the audit log');
    return;
}

my $number = 0;
for my $case (@places)
{
    my ($place, $sent, $words) = @$case;

    subtest "the worker is killed $words" => sub {
        run_edit(++$number, $place, $sent, 'crash', sub { $t->wait_for_server });
    };
    # an exit inside a transaction aborts it; but a commit cannot be left half-way
    subtest "the worker ends by itself $words" => sub {
        run_edit(++$number, $place, $sent, 'exit', sub { });
    } if $place ne 'record_in_commit';
    subtest "the server is stopped at once $words" => sub {
        run_edit(++$number, $place, $sent, 'hang', sub { $t->node->stop('immediate'); $t->node->start });
    };
}

subtest 'an error while the outcome is recorded' => sub {
    plan tests => 4;
    ok($t->wait_worker, 'a worker runs');
    $t->arm('record_uncommitted', 'error');
    my $id = $t->commit_edit('RIO', 'PFA-40', { monthlyRate => 4999 });
    ok($t->reached('record_uncommitted'), 'the place is reached');
    ok($t->wait_status($id, 'synced'), 'the outcome is recorded by itself');
    is($t->attempts($id), 'PUT 200', 'the attempt is in the audit log');
};

subtest 'the extension is not dropped while the worker looks for it' => sub {
    plan tests => 6;
    my $other = PemsSync::Test->new('looking', failpoints => 1, settings => { rate_limit => 0 });
    ok($other->wait_worker, 'a worker runs');
    my $worker = $other->worker->{pid};
    $other->arm('extension_found', 'wait');
    $other->sql("SELECT pg_terminate_backend($worker)");
    ok($other->reached('extension_found'), 'another one has found the extension');
    like($other->sql_error(q{SET lock_timeout = '1s'; DROP EXTENSION pems_sync}), qr/^55P03/, 'DROP EXTENSION waits');
    $other->go_on;
    ok($other->wait_worker(not_pid => $worker), 'the worker goes on');
    $other->sql('DROP EXTENSION pems_sync');
    ok($other->wait_until(sub { $other->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pems_sync worker'}) == 1 }, what => 'a worker'),
        'and waits for the next');
    unlike($other->log_since(0), qr/was terminated by signal/, 'nothing crashed');
    $other->node->stop('fast');
};

subtest 'a build for users has no failpoints' => sub {
    my $plain = PemsSync::Test->new('plain', settings => { rate_limit => 0 });
    $plain->add_organization('RIO');
    $plain->load('RIO', 'PFA-1');
    $plain->arm('claim_committed', 'crash');
    my $id = $plain->commit_edit('RIO', 'PFA-1', { monthlyRate => 1 });
    ok($plain->wait_status($id, 'synced'), 'an edit is synced');
    is($plain->attempts($id), 'PUT 200', 'as ever');
    ok(-e $plain->failpoint_file, 'nobody has looked at the file');
    $plain->node->stop('fast');
};

$t->finish;
