# The clock of the server jumps by a day, forward and back, and into another month: nothing waits for the jump to be caught up with,
# nothing is lost or sent twice, and nobody is told that the worker is dead.  libfaketime sets the clock of the server alone,
# and not the monotonic one, as settimeofday() would.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my ($library) = grep { -e } map { "$_/faketime/libfaketime.so.1" } glob('/usr/lib/*-linux-gnu*'), '/usr/lib';
plan skip_all => 'no libfaketime (package faketime)' if !defined $library;
plan skip_all => 'AddressSanitizer, loaded first, and libfaketime wait for each other' if $ENV{SANITIZE};

# What has its time comes soon by any clock; a day later would be 86400.
use constant SOON => 20;
use constant { DAY => 86400, RATE => 20 };

my $t = PemsSync::Test->new('clock', start => 0,
    settings => { rate_limit => RATE, retry_delay => '4s', max_retries => 10, poll_interval => '1h', max_in_flight => 8 });
my $clock = $t->directory . '/clock';

# Set the clock of the server: seconds ahead of the real one.
sub set_clock
{
    my ($seconds) = @_;
    append_to_file("$clock.new", sprintf "%+d\n", $seconds);
    rename "$clock.new", $clock or die "$clock: $!";
    return;
}

set_clock(0);
{
    local @ENV{qw(LD_PRELOAD FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE DONT_FAKE_MONOTONIC FAKETIME_DONT_FAKE_MONOTONIC FAKETIME_DISABLE_SHM NO_FAKE_STAT)} =
      ($library, $clock, 1, 1, 1, 1, 1);
    $t->node->start;
}
$t->add_fake('main');
$t->make_database('postgres');
$t->add_organization('RIO');
my $fake    = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', 80);
my $next    = 0;

sub health { return decode_json($t->sql('SELECT pems_health()')) }

# How far the server's clock is ahead of ours.
sub ahead { return $t->sql('SELECT extract(epoch FROM clock_timestamp())') - time }

sub edit_some
{
    my ($count) = @_;
    return map { $t->commit_edit('RIO', $pfa_ids[ $next++ ], { monthlyRate => 1 }) } 1 .. $count;
}

sub all_synced
{
    my ($name, @ids) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($t->wait_for("SELECT count(*) = @{[ scalar @ids ]} FROM pfa_modification WHERE sync_status = 'synced' AND id = ANY ("
              . PemsSync::Test::text_array(\@ids) . ')', what => 'all edits', timeout => SOON), $name);
}

# All is well, and the worker's heartbeat is a fresh one by the clock of now.
sub is_well
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $health = health();
    my $age = $t->sql("SELECT extract(epoch FROM clock_timestamp() - '$health->{worker}{lastHeartbeat}')");
    is_deeply([ $health->{status}, $health->{problems} ], [ 'ok', [] ], "$name: pems_health() does not cry wolf");
    cmp_ok(abs $age, '<', SOON, "$name: the heartbeat is a fresh one");
    is(decode_json($t->sql('SELECT pems_sync_status()'))->{health}, 'healthy', "$name: pems_sync_status() says healthy");
    return;
}

# Edits are under way, one waits for its retry, one is held behind it; then the clock jumps.
sub jump
{
    my ($name, $from, $to) = @_;
    my ($slow)   = $fake->fault({ delayMs => 100 });
    my @before   = edit_some(6);
    my $pfa_id   = $pfa_ids[ $next++ ];
    my ($faulty) = $fake->fault({ pfaId => $pfa_id, status => 500, count => 1 });
    $fake->clear_faults($slow);
    my $retried = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 2 });
    my $held    = $t->commit_edit('RIO', $pfa_id, { dor         => 'PROJECT' });
    ok($t->wait_for("SELECT waits_for = 'time' FROM pfa_write_queue WHERE modification_id = '$retried'"), "$name: an edit waits for its retry, another behind it");
    $slow = ($fake->fault({ delayMs => 300 }))[0];
    my @during = edit_some(4);

    my $mark = $fake->mark;
    set_clock($to);
    is($t->item($retried)->{waits_for}, 'time', "$name: it still waits");
    cmp_ok(abs(ahead() - $to), '<', SOON, "$name: the clock jumps");
    is_well($name) if $to < $from;
    my @after = edit_some(4);
    all_synced("$name: what was committed before, during and after it is synced", @before, @during, @after);
    all_synced("$name: so is the retry, and what was held behind it", $retried, $held);
    is($t->item($retried)->{retry_count}, 1, "$name: with one retry");
    like($t->attempts($retried), qr/^PUT 500 SERVER_ERROR, GET 200, PUT 200$/, "$name: with a read before the second write");
    is_well($name);
    $fake->clear_faults;
    return;
}

# The breaker and the rate limit go by the monotonic clock.
sub is_limited
{
    my ($name) = @_;
    my $mark = $fake->mark;
    all_synced("$name: more edits", edit_some(3));
    my @at = map { $_->{monotonicUs} } $fake->requests;
    is(scalar(grep { $at[ $_ + RATE ] - $at[$_] < 1e6 } 0 .. $#at - RATE), 0, "$name: no second had more requests than allowed");
    return;
}

jump('a day forward', 0, DAY);
jump('a day back', DAY, 0);
is_limited('after the jumps');

# ---- a retry that waits for long, and the server is restarted with another clock ----

subtest 'the clock is set back while the worker is down' => sub {
    set_clock(DAY);
    my $pfa_id = $pfa_ids[ $next++ ];
    $fake->fault({ pfaId => $pfa_id, hang => JSON::PP::true, count => 1 });
    my $id = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 3 });
    ok($t->wait_until(sub { $fake->stats->{waiting} == 1 }, what => 'a request'), 'a request hangs');
    # before the worker ends, so that the next one takes it up by the old clock
    set_clock(0);
    $t->sql('SELECT pg_terminate_backend(pid) FROM pems_worker');
    all_synced('the next worker takes it up, and does not wait for a day', $id);
    is_well('afterwards');
};

# ---- an endpoint that does not answer ----

subtest 'the breaker is open when the clock jumps' => sub {
    $fake->fault({ status => 503 });
    my @ids = edit_some(5);
    ok($t->wait_for('SELECT open_breakers = 1 FROM pems_worker', timeout => SOON), 'five faults open it');
    set_clock(-DAY);
    $fake->clear_faults;
    all_synced('a day back, the probe goes out all the same, and the edits after it', @ids);
    set_clock(0);
    all_synced('and when the clock is right again', edit_some(2));
    is_well('afterwards');
};

# ---- another month ----

subtest 'the clock goes to another month' => sub {
    my $month = "to_char(now() AT TIME ZONE 'UTC' + interval '%s month', 'YYYY_MM')";
    my $known = "SELECT to_regclass('pems_audit_log_' || " . sprintf($month, '%s') . ') IS NOT NULL';
    is($t->sql(sprintf $known, 1), 't', 'there is a partition for the next month');
    is($t->sql(sprintf $known, 2), 'f', 'and none for the one after it');
    my $ahead = int $t->sql("SELECT extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month 1 day' - now() AT TIME ZONE 'UTC')");
    set_clock($ahead);
    my @ids = edit_some(1);
    # statistics and partitions are looked after every ten seconds while there is work
    ok($t->wait_until(sub { push @ids, edit_some(1) if @ids < 12; return $t->sql(sprintf $known, 1) eq 't' }, what => 'a partition', timeout => 3 * SOON),
        'in the next month one more is made');
    all_synced('edits go on', @ids);
    is($t->sql('SELECT count(*) FROM pems_audit_log_default'), '0', 'every row has a month of its own');
    is_well('in another month');
    set_clock(0);
    all_synced('and back', edit_some(2));
    is_well('back');
};

is($t->sql('SELECT count(*) - count(DISTINCT id) FROM (SELECT id FROM pfa_write_queue UNION ALL SELECT id FROM pems_sync_job) i'), '0', 'ids are unique');
is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status <> 'completed'"), '0', 'all edits are done');
my %times;
$times{ $_->{pfaId} }++ for $fake->changes(by => 'client');
is(join(' ', grep { $times{$_} > 2 } sort keys %times), '', 'and were done once');

# The checker also compares when an item was queued, by the server's clock, with when its requests arrived, by that of PEMS.
my $doctor = $t->directory . '/doctor.sql';
append_to_file($doctor, "UPDATE pems_audit_log SET at = at - interval '100 days' WHERE event_type = 'COMMITTED';\n");
$t->finish('--doctor', $doctor);
