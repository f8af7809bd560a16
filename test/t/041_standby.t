# A standby sends nothing.  When the primary is killed and the standby promoted, its worker goes on with what
# the primary had: with synchronous replication nothing is missing, and what was under way is worked
# on again within five seconds.  With asynchronous replication the standby has an older state
# than PEMS: even then nothing is applied twice, and nothing overwritten.
#
# Each promoted standby is the primary of the next case, so the checker looks at all of it again and again.  The key
# file lies outside the data directory; all servers read the same one.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

plan skip_all => 'no server with failpoints (make test builds one)' if !PemsSync::Test::has_failpoints();

# The contract: the new primary takes up what the old one left within five seconds of its promotion.
use constant TAKEN_UP => 5;
# What a noisy machine may add to that.
use constant SLACK => 10;
# In each case: records, those that get a second edit, and those that are edited in PEMS, too.
use constant { RECORDS => 40, EDITED_TWICE => 8, EDITED_IN_PEMS => 6 };

my $t = PemsSync::Test->new('primary', failpoints => 1, init => { allows_streaming => 1 },
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 10, max_in_flight => 4, batch_size => 8, poll_interval => '1h' });
$t->add_organization($_) for qw(RIO LAG);
my $fake = $t->fake;
# Every answer takes its time, so that each kill finds several requests under way.
$fake->fault({ organizationCode => 'RIO', probability => 0.5, seed => 41, delayMs => 100 }, { organizationCode => 'RIO', delayAfterApplyMs => 100 });

# ---------- servers ----------

# A standby of the server that is the primary now.  synchronous: from now on each commit waits for it.
sub standby
{
    my ($name, %options) = @_;
    my $standby = PostgreSQL::Test::Cluster->new($name, install_path => $ENV{PEMS_FAILPOINT_PG});
    $t->node->backup($name);
    $standby->init_from_backup($t->node, $name, has_streaming => 1);
    $standby->start;
    # Set after the backup: the standby must not wait for a standby of its own when it is promoted.
    $t->sql("ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()") if $options{synchronous};
    my $wanted = $options{synchronous} ? 'sync' : 'async';
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = '$wanted')", what => 'replication'),
        "the standby follows ($wanted)");
    return $standby;
}

# kill -9 of the postmaster and all its processes, as if the machine had lost its power: none of them sees another one
# die, so the postmaster comes to a halt first.
my $killed;    # its postmaster

sub kill_primary
{
    my @processes = split /\n/, $t->sql('SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
    ($killed) = slurp_file($t->node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
    kill 'STOP', $killed;
    kill 'KILL', @processes;
    my $ok = $t->wait_until(sub { !grep { is_alive($_) } @processes }, what => 'the end of the primary');
    $t->node->kill9;
    return $ok;
}

# Nobody may have asked yet how it ended.
sub is_alive
{
    my ($pid) = @_;
    # the process may end at any moment: then there is no file, or it cannot be read any more
    my $stat = eval { slurp_file("/proc/$pid/stat") } // '';
    return kill(0, $pid) && $stat !~ /^.*\) Z /s;
}

# All that was committed synchronously is before the position that the first returns; the second waits for its replay.
# How far the standby has flushed what the primary wrote: to the end of a record, because it cannot replay a part of one.
sub confirmed
{
    my $end = $t->sql("SELECT pg_logical_emit_message(false, 'test', 'the end')");
    $t->wait_for("SELECT max(flush_lsn) >= '$end'::pg_lsn FROM pg_stat_replication", what => 'the standby');
    return $end;
}

sub wait_for_replay
{
    my ($standby, $position) = @_;
    return $standby->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$position'::pg_lsn");
}

# Promote it; returns the moment.  From now on it is the server that is meant.
sub promote
{
    my ($standby) = @_;
    my $moment = clock_gettime(CLOCK_MONOTONIC);
    $standby->promote;
    $t->move_to($standby);
    return $moment;
}

sub is_idle
{
    my ($standby, $name) = @_;
    is($standby->safe_psql('postgres', "SELECT state, pid FROM pems_worker; SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pems%'"),
        "absent|\n0", $name);
    return;
}

# ---------- edits ----------

# Drafts and edits in PEMS on the records of a case; what each record must have in the end is added to %$wanted.
sub make_edits
{
    my ($code, $pfa_ids, $wanted) = @_;
    my @edits = ((map { [ $_, { monthlyRate => 4000 } ] } @$pfa_ids), map { [ $_, { monthlyRate => 4001, model => 'edited twice' } ] } @$pfa_ids[ 0 .. EDITED_TWICE - 1 ]);
    my @in_pems = @$pfa_ids[ 4 .. 4 + EDITED_IN_PEMS - 1 ];
    my @ids = $t->edits($code, @edits);

    $wanted->{ $_->[0] } = { %{ $wanted->{ $_->[0] } // {} }, %{ $_->[1] } } for @edits;
    $wanted->{$_}{description} = 'edited in PEMS' for @in_pems;
    $fake->edit(map { { organizationCode => $code, pfaId => $_, changes => { description => 'edited in PEMS' } } } @in_pems);
    return @ids;
}

# Modifications whose item changed PEMS more than once, or not at all.
sub not_applied_once
{
    my ($code, %item_of) = @_;
    my %item  = map { $_->{seq} => $_->{requestId} =~ s/:\d+$//r } $fake->requests(organizationCode => $code);
    my %times;
    $times{ $item{ $_->{requestSeq} } }++ for $fake->changes(organizationCode => $code, by => 'client');
    return join ' ', map { "$_: " . ($times{ $item_of{$_} } // 0) } grep { ($times{ $item_of{$_} } // 0) != 1 } sort keys %item_of;
}

# Records that do not have in PEMS what they should have.
sub not_as_wanted
{
    my ($code, $wanted) = @_;
    my %data = map { $_->{pfaId} => $_->{data} } grep { $_->{organizationCode} eq $code } @{ $fake->records };
    my @wrong;
    for my $pfa_id (sort keys %$wanted)
    {
        push @wrong, map { "$pfa_id $_: $data{$pfa_id}{$_}" } grep { $data{$pfa_id}{$_} ne $wanted->{$pfa_id}{$_} } sort keys %{ $wanted->{$pfa_id} };
    }
    return join ', ', @wrong;
}

sub items_of
{
    my @ids = @_;
    return map { $_->{modification_id} => $_->{id} } $t->rows('SELECT id, modification_id FROM pfa_write_queue WHERE modification_id = ANY (' . PemsSync::Test::text_array(\@ids) . ')');
}

# ---------- a standby ----------

subtest 'while it is a standby' => sub {
    $t->load('RIO', 'PFA-1', 'PFA-2');
    my $standby = standby('idle', synchronous => 1);
    my $id      = $t->commit_edit('RIO', 'PFA-1', { monthlyRate => 1 });
    my $refused = $t->commit_edit('RIO', 'PFA-2', { monthlyRate => 2 }, base => 7);
    ok($t->quiet, 'the primary has nothing to do any more');
    ok(wait_for_replay($standby, confirmed()), 'and the standby knows it');

    is_idle($standby, 'it has no worker');
    my @requests = map { $_->{requestId} } $fake->requests;
    my %once     = map { $_ => 1 } @requests;
    is(scalar(@requests), scalar(keys %once), 'PEMS got each request once: nobody but the primary sends');

    my $status = decode_json($standby->safe_psql('postgres', 'SELECT pems_sync_status()'));
    is("$status->{completed} $status->{totalQueued} $status->{conflicts}", '1 0 1', 'pems_sync_status counts');
    is($status->{health}, 'unhealthy', 'and says that nothing is sent here');
    my $state = decode_json($standby->safe_psql('postgres', "SELECT pems_sync_state('org-rio', ARRAY['PFA-1', 'PFA-2'])"));
    is("$state->{'PFA-1'}{status} $state->{'PFA-2'}{status}", 'synced conflict', 'pems_sync_state knows the records');
    my $conflicts = decode_json($standby->safe_psql('postgres', "SELECT pems_conflicts('org-rio')"));
    is($conflicts->{total}, 1, 'pems_conflicts lists');
    my $conflict = decode_json($standby->safe_psql('postgres', "SELECT pems_conflict('$conflicts->{conflicts}[0]{id}')"));
    is($conflict->{modificationId}, $refused, 'pems_conflict shows');
    is($standby->safe_psql('postgres', 'SELECT count(*) FROM pems_queue; SELECT count(*) FROM pems_open_conflicts; SELECT count(*) FROM pems_dead_letters'),
        "1\n1\n0", 'the views can be read');

    for my $call ("pems_commit('org-rio', ARRAY['$id'])", "pems_discard('$id')", 'pems_pause()', 'pems_resume()',
        "pems_resolve_conflict('$conflict->{id}', 'use_pems')")
    {
        my ($exit, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call");
        like($err, qr/ERROR:  25006: cannot execute .* (in a read-only transaction|during recovery)/, "it refuses $call");
    }
    $t->sql("SELECT pems_resolve_conflict('$conflict->{id}', 'use_pems')");
    # commits must not wait for a standby that is not there
    $t->sql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()");
    $standby->stop('fast');
};

# ---------- promotions ----------

# The primary is killed at that place, and its synchronous standby promoted.
sub fail_over
{
    my ($place) = @_;
    my $prefix  = $place =~ s/_/-/gr;
    my @pfa_ids = $t->load_many('RIO', "$prefix-", RECORDS);
    my $standby = standby("after_$place", synchronous => 1);
    my %wanted;

    my @ids  = make_edits('RIO', \@pfa_ids, \%wanted);
    my $mark = $fake->mark;
    $t->commit('RIO', \@ids);
    my %item_of = items_of(@ids);
    ok($t->wait_until(sub { $fake->mark > $mark + 8 }, what => 'requests'), 'the edits are on their way');
    $t->arm($place, 'hang');
    ok($t->reached($place), 'the place is reached');
    my $confirmed = confirmed();
    ok(kill_primary(), 'the primary is killed');

    ok(wait_for_replay($standby, $confirmed), 'the standby knows all that the primary did');
    my %orphans = map { split /\|/ } split /\n/, $standby->safe_psql('postgres', "SELECT id, attempt FROM pfa_write_queue WHERE status = 'processing'");
    cmp_ok(scalar(keys %orphans), '>', 0, scalar(keys %orphans) . ' requests were under way');
    is_idle($standby, 'it has no worker');
    my $moment = promote($standby);
    ok($t->wait_worker, 'promoted, it has one');
    ok($t->quiet(timeout => 60), 'all work is done');

    my %again;    # item => when the next request for it arrived
    for my $request (reverse $fake->requests)
    {
        my ($item, $attempt) = $request->{requestId} =~ /^(.*):(\d+)$/;
        $again{$item} = $request->{monotonicUs} / 1e6 - $moment if defined $orphans{$item} && $attempt == $orphans{$item} + 1;
    }
    my ($longest) = sort { $b <=> $a } map { $again{$_} // 1e6 } keys %orphans;
    cmp_ok($longest, '<', TAKEN_UP + SLACK, sprintf 'what was under way is worked on again after %.1f s', $longest);
    is($t->sql('SELECT count(*) FROM pfa_modification WHERE sync_status <> \'synced\' AND id = ANY (' . PemsSync::Test::text_array(\@ids) . ')'), 0, 'all edits are synced');
    is(not_applied_once('RIO', %item_of), '', 'PEMS applied each of them once');
    is(not_as_wanted('RIO', \%wanted), '', 'PEMS has the newest value of each field');
    $t->check('the checker is content with the new primary');
    return;
}

for my $place (qw(claim_committed request_sent answer_unrecorded record_uncommitted record_committed))
{
    subtest "the primary is killed at $place" => sub { fail_over($place) };
}

# What makes all of that true: a request leaves when its claim is on the standby, not before; also when the wait for the
# standby ends because the worker is to end.
sub fail_over_unheard
{
    my ($pfa_id, $end) = @_;
    $t->load('RIO', $pfa_id);
    my $standby = standby("deaf_to_$pfa_id", synchronous => 1);
    $t->sql("SELECT pems_pause('org-rio')");
    my $id = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 3 });
    my $receiver = $standby->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver');
    kill 'STOP', $receiver;
    $t->sql("SET synchronous_commit = local; SELECT pems_resume('org-rio')");
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'pems%' AND wait_event = 'SyncRep')",
            what => 'a worker that waits for the standby'), 'the worker waits for the standby');
    ok($end->(), 'the primary ends');
    is(scalar($fake->requests(pfaId => $pfa_id)), 0, 'and has sent nothing');
    kill 'TERM', $receiver;
    kill 'CONT', $receiver;

    promote($standby);
    ok($t->wait_worker, 'promoted, the standby has a worker');
    $t->sql("SELECT pems_resume('org-rio')");
    ok($t->wait_status($id, 'synced'), 'which sends the edit');
    is(scalar($fake->changes(pfaId => $pfa_id, by => 'client')), 1, 'once');
    ok($t->quiet, 'all work is done');
    $t->check('the checker is content with the new primary');
    return;
}

# End the worker alone, then the primary.
sub terminate_worker
{
    my $pid = $t->worker->{pid};
    $t->sql("SELECT pg_terminate_backend($pid)");
    # the next one begins with a transaction that waits, too
    return $t->wait_until(sub { !is_alive($pid) }, what => 'the end of the worker') && kill_primary();
}

# Somebody cancels what the worker waits for; it waits on.
sub cancel_worker
{
    my $pid = $t->worker->{pid};
    $t->sql("SELECT pg_cancel_backend($pid)");
    Time::HiRes::sleep(0.5);
    return $t->sql("SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid") eq 't' && kill_primary();
}

subtest 'the standby does not get the claim, and the primary is killed' => sub { fail_over_unheard('PFA-3', \&kill_primary) };
subtest 'the standby does not get the claim, and the worker is told to end' => sub { fail_over_unheard('PFA-4', \&terminate_worker) };
subtest 'the standby does not get the claim, and the wait is canceled' => sub { fail_over_unheard('PFA-6', \&cancel_worker) };

# ---------- a standby that lags behind ----------

# What the old primary did after the last WAL that the standby got, no audit log has: neither its attempts nor what
# was committed there.  So the checker cannot be asked here, but PEMS's log can: the new primary begins with
# an older state, sends edits again that PEMS has already, on versions that PEMS has left behind, and must
# find that out.
#
# What nobody can find out: the old primary's write arrived, and was lost here; then somebody in PEMS
# changed the field back to what it was.  The edit is then sent once more, as if it were the first time.
subtest 'an asynchronous standby that does not know the last requests' => sub {
    my @pfa_ids = $t->load_many('LAG', 'LAG-', RECORDS);
    $t->load('LAG', 'UNKNOWN-1', 'UNKNOWN-2');
    my $old     = $t->node;
    my $standby = standby('lagging');
    my %wanted;

    # Edits that the standby knows, and whose requests it does not
    $t->sql("SELECT pems_pause('org-lag')");
    my @ids = make_edits('LAG', \@pfa_ids, \%wanted);
    $t->commit('LAG', \@ids);
    my %item_of = items_of(@ids);
    $old->wait_for_catchup($standby, 'replay');
    $standby->safe_psql('postgres', "ALTER SYSTEM SET primary_conninfo = ''");
    $standby->safe_psql('postgres', 'SELECT pg_reload_conf()');
    ok($t->wait_for('SELECT NOT EXISTS (SELECT FROM pg_stat_replication)', what => 'the end of replication'), 'the standby does not follow any more');

    # Edits that the standby does not know: one behind an edit that it does, one of a record of its own, and one that
    # never leaves the old primary.  It sends the first two and some of the others (the first is behind the fifteenth record, and
    # a busy machine notices late that it may go), and then PEMS falls silent.
    my ($hang) = $fake->fault({ organizationCode => 'LAG', call => 'update', after => 36, hang => JSON::PP::true });
    my $behind  = $pfa_ids[ EDITED_TWICE + EDITED_IN_PEMS ];
    my @unknown = $t->edits('LAG', [ $behind, { monthlyRate => 4002 } ], [ 'UNKNOWN-1', { monthlyRate => 4003 } ]);
    $t->commit('LAG', \@unknown, priority => 'high');
    %wanted = (%wanted, $behind => { monthlyRate => 4002 }, 'UNKNOWN-1' => { monthlyRate => 4003 });
    my %unknown_items = items_of(@unknown);
    $t->sql("SELECT pems_resume('org-lag')");
    ok($t->wait_status($_, 'synced'), 'the old primary has sent what only it knows') for @unknown;
    ok($t->wait_until(sub { $fake->fired($hang) >= 4 }, what => 'hanging requests'), 'and gets no answers any more');
    my $unsent = $t->commit_edit('LAG', 'UNKNOWN-2', { monthlyRate => 4004 });
    my %unsent_item = items_of($unsent);
    ok(kill_primary(), 'the primary is killed');
    $fake->clear_faults;

    my %sent = map { $_->{pfaId} => 1 } $fake->changes(organizationCode => 'LAG', by => 'client');
    promote($standby);
    ok($t->wait_worker, 'promoted, the standby has a worker');
    $t->sql("SELECT pems_resume('org-lag')");
    ok($t->quiet(timeout => 60), 'all work is done');
    # A value that PEMS has, and that this server never wrote, is somebody else's, for all that it knows: so is the
    # newer edit, and so is the first of two edits for the second.
    my @twice = grep { $sent{$_} } @pfa_ids[ 0 .. EDITED_TWICE - 1 ];
    is($t->sql("SELECT string_agg(pfa_id, ' ' ORDER BY pfa_id) FROM pfa_sync_conflict WHERE status = 'unresolved'"),
        join(' ', sort @twice, $behind), 'a person must decide where PEMS has an edit of the same field that this server did not send, and nowhere else');
    $t->sql("SELECT pems_resolve_conflict(id, CASE pfa_id WHEN '$behind' THEN 'use_pems' ELSE 'use_local' END) FROM pfa_sync_conflict WHERE status = 'unresolved'");
    ok($t->quiet(timeout => 60), 'and does so');
    is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE organization_id = 'org-lag' AND status NOT IN ('completed', 'cancelled')"), 0, 'no item is left');
    is(not_applied_once('LAG', %item_of, %unknown_items), '', 'PEMS applied each edit once');
    is(not_as_wanted('LAG', \%wanted), '', 'and nothing was overwritten');

    # Split brain: by mistake the old primary is started, too, and goes on with what it had.  That is not supported: it sends
    # edits that somebody may have discarded on the other server.  PEMS's versions still protect what the other has written.
    ok($t->wait_until(sub { !kill 0, $killed }, what => 'the end of the old postmaster'), 'the old primary has ended');
    $old->start;
    $t->move_to($old);
    ok($t->wait_worker, 'the old primary, started by mistake, has a worker, too');
    ok($t->wait_status($unsent, 'synced'), 'and sends what only it has');
    ok($t->quiet(timeout => 60), 'all its work is done');
    is(not_applied_once('LAG', %item_of, %unknown_items, %unsent_item), '', 'still PEMS applied each edit once');
    is(not_as_wanted('LAG', { %wanted, 'UNKNOWN-2' => { monthlyRate => 4004 } }), '', 'and nothing was overwritten');
    $_->stop('fast') for $old, $standby;
};

done_testing();
