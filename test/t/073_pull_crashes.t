# The worker is killed, the server stopped at once, or a standby promoted, at every step of a full pull: each time the
# pull goes on where it was, stores nothing twice, deletes nothing wrongly, and its counters are right.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Pulls;
use PemsSync::Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no server with failpoints (make test builds one)' if !PemsSync::Test::has_failpoints();

# Place => phase in which it is meant; undef: the first time that it is reached.
my @places = (
    [ pull_start_uncommitted  => undef,        'before the start of a page is committed' ],
    [ pull_start_committed    => undef,        'after it' ],
    [ pull_request_sent       => undef,        'while the page is asked for' ],
    [ pull_answered           => undef,        'with the page in memory' ],
    [ pull_slice_uncommitted  => undef,        'before the first slice of a page is committed' ],
    [ pull_slice_committed    => undef,        'after it, in the middle of the page' ],
    [ pull_search_uncommitted => 'counting',   'while the mirror is counted' ],
    [ pull_search_uncommitted => 'sorting',    'while what was seen is sorted' ],
    [ pull_search_committed   => 'searching',  'while missing records are searched' ],
    [ pull_step_uncommitted   => 'confirming', 'before a missing record is marked' ],
    [ pull_step_committed     => 'confirming', 'after it' ]);

# Slices are of 50 records at first, so a page has two.
my $t = PemsSync::Test->new('crashes', failpoints => 1, init => { allows_streaming => 1 },
    settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1h', pull_page_size => 60 });
my $fake = $t->fake;
my $p    = PemsSync::Pulls->new($t);
$t->add_organization('RIO');

my @ids = $p->many_in_pems('RIO', 'PFA-', 100);
is(PemsSync::Pulls::counts($p->pull('RIO')), 'completed created 100', 'the first pull');
my $round = 0;

# Every record is other, new, or gone than the last time: returns what the next full pull is to say.
sub change_pems
{
    $round++;
    my @there = map { $_->{pfaId} } grep { !$_->{deleted} } @{ $fake->records };
    $fake->edit((map { { organizationCode => 'RIO', pfaId => $_, changes => { monthlyRate => $round } } } @there[ 10 .. 29 ]),
        { organizationCode => 'RIO', pfaId => $there[60], delete => JSON::PP::true },
        map { { organizationCode => 'RIO', pfaId => "NEW-$round-$_", data => PemsSync::Test::record_data("NEW-$round-$_") } } 1 .. 3);
    $fake->forget('RIO', @there[ 70, 71 ]);
    my $tombstones = grep { $_->{deleted} } @{ $fake->records };
    # those of before are unchanged, as is what nobody touched
    my $unchanged = @there - 20 - 3 + $tombstones - 1;
    return "completed created 3 updated 20 deleted 3 unchanged $unchanged";
}

# Begin a full pull, with the process that reaches the place in that phase made to do that.  Returns the job.
sub pull_up_to
{
    my ($place, $phase, $action) = @_;
    $t->arm($place, 'wait') if defined $phase;
    $t->arm($place, $action) if !defined $phase;
    my $id = $p->begin('RIO', mode => 'full');
    while (defined $phase)
    {
        $t->reached($place) or return $id;
        last if $p->state($id)->{phase} eq $phase;
        $t->arm($place, 'wait');    # it goes on to the next time
    }
    if (defined $phase)
    {
        # where the process stands it is past this failpoint: the next one of the phase
        $t->arm($place, $action);
    }
    ok($t->reached($place), 'the place is reached');
    return $id;
}

# Tests: the pull has ended well, and everything is there once.
sub ended_well
{
    my ($id, $expected) = @_;
    my $job = $p->end($id);
    is(PemsSync::Pulls::counts($job), $expected, 'the pull goes on, and counts right');
    is($job->{error}, undef, 'without an error');
    $p->same_as_pems('RIO');
    is($t->sql(q{SELECT count(*) FROM (SELECT FROM pems_mirror_version GROUP BY organization_id, pfa_id, version HAVING count(*) > 1) twice}), 0, 'each state is in the history once');
    $p->nothing_left;
    is($t->sql("SELECT count(*) FROM pems_pull_state WHERE phase <> 'ended'"), 0, 'no pull is left');
    is($t->sql("SELECT watermark >= (SELECT max(listing_since) - interval '1 hour' FROM pems_pull_state) FROM pems_pull_organization"), 't', 'the watermark is there');
    return;
}

for my $case (@places)
{
    my ($place, $phase, $words) = @$case;

    subtest "the worker is killed $words" => sub {
        ok($t->wait_worker, 'a worker runs');
        my $pid      = $t->worker->{pid};
        my $expected = change_pems();
        my $id       = pull_up_to($place, $phase, 'crash');
        $t->wait_for_server;
        ok($t->wait_worker(not_pid => $pid), 'another worker runs');
        ended_well($id, $expected);
    };

    subtest "the server is stopped at once $words" => sub {
        ok($t->wait_worker, 'a worker runs');
        my $expected = change_pems();
        my $id       = pull_up_to($place, $phase, 'hang');
        $t->node->stop('immediate');
        $t->node->start;
        ended_well($id, $expected);
    };
}

subtest 'an error in a slice, a search and a step' => sub {
    for my $place (qw(pull_start_uncommitted pull_search_uncommitted))
    {
        my $expected = change_pems();
        my $id = pull_up_to($place, undef, 'error');
        ended_well($id, $expected);
    }
};

# ---------- a standby is promoted ----------

my $standbys = 0;

# A standby that follows the primary.
sub standby
{
    my $name = 'standby' . ++$standbys;
    my $standby = PostgreSQL::Test::Cluster->new($name, install_path => $ENV{PEMS_FAILPOINT_PG});
    $t->node->backup($name);
    $standby->init_from_backup($t->node, $name, has_streaming => 1);
    $standby->start;
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')", what => 'replication'), 'a standby follows');
    return $standby;
}

for my $case (@places)
{
    my ($place, $phase, $words) = @$case;

    subtest "a standby is promoted $words" => sub {
        ok($t->wait_worker, 'a worker runs');
        my $standby  = standby();
        my $expected = change_pems();
        my $id       = pull_up_to($place, $phase, 'hang');
        # whatever the standby has by now: its state may be older than that of the primary, but it knows the pull
        my $known = $t->sql('SELECT pg_current_wal_flush_lsn()');
        $standby->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$known'::pg_lsn");
        $t->node->stop('immediate');
        $standby->promote;
        $t->move_to($standby);
        ended_well($id, $expected);
    };
}

$t->finish;
