# Scenario 30: a dump that is restored into another cluster sends nothing, although the copy has all that it takes to
# send: edits that are due, the credential and its key, and a PEMS that answers.  More about copies: 014_copy.t.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my %settings = (rate_limit => 0, retry_delay => '100ms', poll_interval => '1h');
my $t = PemsSync::Test->new('original', settings => \%settings);
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "S30-$_" } 1 .. 6);

subtest 'scenario 30: a dump restored into another cluster sends nothing' => sub {
    # The original stands still in a way that no dump tells of.
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), 'the original is disabled');
    my @ids = $t->edits('RIO', map { [ "S30-$_", { monthlyRate => 4000 } ] } 1 .. 5);
    $t->commit('RIO', \@ids);
    my $draft = $t->edit('RIO', 'S30-6', { monthlyRate => 4000 });
    my $mark  = $fake->mark;
    my $dump  = $t->directory . '/dump';
    command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $t->node->connstr('postgres') ], 'pg_dump with five edits that are due');

    my $copy = PemsSync::Test->new('copy', settings => { %settings, key_file => $t->key_file }, start => 0);
    $copy->node->start;
    command_ok([ 'pg_restore', '--exit-on-error', '-d', $copy->node->connstr('postgres'), $dump ], 'pg_restore into another cluster');
    ok($copy->wait_worker(state => 'copy'), 'its worker says copy');
    is($copy->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'pending' AND waits_for IS NULL"), '5', 'the edits are due there, too');
    is($copy->sql('SELECT count(*) FROM pems_pause'), '0', 'and nothing is paused');

    # something to do wakes the worker, and it looks again
    my $before = $copy->worker->{last_heartbeat};
    $copy->sql(PemsSync::Test::commit_statement('RIO', [$draft]));
    ok($copy->wait_for("SELECT last_heartbeat > '$before'::timestamptz + interval '1 s' FROM pems_worker"), 'a commit wakes it');
    is($copy->worker->{state}, 'copy', 'it is still a copy');
    is($copy->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'pending' AND attempt = 0"), '6', 'it has not tried anything');
    is($copy->sql("SELECT count(*) FROM pems_audit_log WHERE http_method IS NOT NULL"), '0', 'its audit log has no request');
    is(scalar(my @requests = $fake->requests(since => $mark)), 0, 'PEMS saw no request');
    like($copy->log_since(0), qr/WARNING:.*this database is a copy and sends nothing/, 'the log of the copy says why');

    # the original sends each of its edits, once, with the copy beside it
    $t->set(enabled => 'on');
    ok($t->wait_status($_, 'synced'), "$_: the original sends it") for @ids;
    $t->story_is($_, "$_: once", status => 'synced completed', attempts => 'PUT 200', requests => 'PUT v1 200', keys => '1', changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 2 2') for @ids;
    is(scalar(@requests = $fake->requests(since => $mark)), 5, 'these are all requests that PEMS saw');
    $copy->node->stop('fast');
};

$t->finish;
