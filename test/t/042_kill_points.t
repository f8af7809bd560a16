# kill -9 of the worker, and immediate stops of the server, at random moments, many times in one run, while
# users go on committing and others go on editing in PEMS.  PEMS's own log says in the end what was
# lost, duplicated or overwritten.
#
#   KILL_POINTS=1000   how often (25); `make kill-points` does 1000
#   SEED=...           to do a run that failed again
#
# Users' edits set five fields and never the same value twice; those who edit in PEMS set a sixth one.  So each
# value tells whose it is, every edit can be merged, and a field that has an older value than
# its newest edit was overwritten.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use IPC::Run;
use JSON::PP;
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(sleep time clock_gettime CLOCK_MONOTONIC);

my $kill_points = $ENV{KILL_POINTS} || 25;
my $seed        = int($ENV{SEED} || time ^ $$);
srand $seed;
note "KILL_POINTS=$kill_points SEED=$seed";

use constant { RECORDS => 300, UNFINISHED => 50 };
# The contract: items are taken up within five seconds of the worker's start.
use constant TAKEN_UP => 5;
# What a noisy machine may add to that.
use constant SLACK => 10;

my @fields = qw(monthlyRate manufacturer model contract equipment);

my $t = PemsSync::Test->new('kill_points', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 20, max_in_flight => 8, batch_size => 16 });
$t->add_organization('RIO');
my $fake    = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', RECORDS);

# Answers are lost without a kill, too; and the others take their time, some before and some after the effect, so
# that a kill finds requests in every state.
$fake->fault(
    { probability => 0.02, seed => $seed % 1000 + 1, applyThenDrop   => JSON::PP::true },
    { probability => 0.02, seed => $seed % 1000 + 2, dropBeforeApply => JSON::PP::true },
    { probability => 0.02, seed => $seed % 1000 + 3, status          => 503 },
    { probability => 0.5,  seed => $seed % 1000 + 4, delayMs         => 60 },
    { delayAfterApplyMs => 60 });

# What a message shows of a list.
sub first_few { return @_ > 10 ? (@_[ 0 .. 9 ], '...') : @_ }

# ---------- the users ----------

my %edits;        # modification => { number, pfa_id, field, value }
my %newest;       # record and field => the same, of the newest edit
my %described;    # record => description that somebody wrote in PEMS last
my @promised;     # sessions that were committing when the worker was killed
my $edited_in_pems = 0;
my $resolved       = 0;

# So many drafts, one to three per record; returns their ids.
sub draft
{
    my ($count) = @_;
    my @plan;
    while (@plan < $count)
    {
        my $pfa_id = $pfa_ids[ rand @pfa_ids ];
        push @plan, map { { pfa_id => $pfa_id, field => $fields[ rand @fields ] } } 0 .. rand 3;
    }
    my $number = keys %edits;
    $_->{value} = $_->{field} eq 'monthlyRate' ? $_->{number} : "value $_->{number}" for map { $_->{number} = ++$number; $_ } @plan;
    my @ids = $t->edits('RIO', map { [ $_->{pfa_id}, { $_->{field} => $_->{value} } ] } @plan);
    @edits{@ids} = @plan;
    $newest{"$_->{pfa_id} $_->{field}"} = $_ for @plan;

    my %records = map { $_->{pfa_id} => 1 } @plan[ 0, -1 ];
    $described{$_} = 'described in PEMS: ' . ++$edited_in_pems for keys %records;
    $fake->edit(map { { organizationCode => 'RIO', pfaId => $_, changes => { description => $described{$_} } } } keys %records);
    return @ids;
}

# Commit so many edits that there is work for the next moments.
sub commit_more
{
    my $missing = UNFINISHED - $t->sql("SELECT count(*) FROM pfa_write_queue WHERE status IN ('pending', 'processing')");
    $t->commit('RIO', [ draft($missing) ]) if $missing > 0;
    return;
}

# A session that commits while the server goes down, and may be told that it was done, or not.
sub begin_commit
{
    my @ids     = draft(3);
    my $session = { ids => \@ids, out => '', err => '' };
    $session->{psql} = IPC::Run::start(
        [ 'psql', '-X', '-q', '-A', '-t', '-d', $t->node->connstr('postgres'), '-c', PemsSync::Test::commit_statement('RIO', \@ids) ],
        '>', \$session->{out}, '2>', \$session->{err});
    push @promised, $session;
    return;
}

# What that session was told holds; and what was not committed is committed now, before anything that is newer.
sub end_commits
{
    for my $session (splice @promised)
    {
        my $told   = IPC::Run::finish($session->{psql});
        my @drafts = map { $_->{id} } $t->rows("SELECT id FROM pfa_modification WHERE sync_status = 'draft' ORDER BY id");
        fail("a session was told that it had committed, but @drafts are drafts: $session->{out}") if $told && @drafts;
        $t->commit('RIO', \@drafts) if @drafts;
    }
    return;
}

# Where an answer was lost, and PEMS has moved on by two versions or more without showing the edit, it may have
# been there and gone again; so it becomes a conflict (docs/CONFLICTS.md).  Here nobody in PEMS sets these
# fields, so the edit never arrived, and the user decides that it shall.
sub resolve_conflicts
{
    my @answers = split /\n/, $t->sql("SELECT pems_resolve_conflict(id, 'use_local') FROM pfa_sync_conflict WHERE status = 'unresolved'");
    $resolved += @answers;
    return scalar @answers;
}

# ---------- the kills ----------

my @lives;    # of workers: { pid, from, to }, seconds since the epoch

sub new_worker
{
    my $before = @lives ? $lives[-1]{pid} : 0;
    $t->wait_worker(not_pid => $before) or BAIL_OUT('no worker came');
    my $worker = $t->row("SELECT pid, extract(epoch FROM started_at)::double precision AS from FROM pems_worker");
    push @lives, $worker;
    return $worker;
}

sub kill_worker
{
    my ($worker) = @_;
    $worker->{to} = time;
    kill 'KILL', $worker->{pid} or BAIL_OUT("worker $worker->{pid} is not there any more");
    # The postmaster starts all processes anew.
    $t->wait_until(sub { !kill 0, $worker->{pid} }, what => 'the end of the worker');
    $t->wait_for_server or BAIL_OUT('the server did not come back');
    return;
}

sub stop_server
{
    my ($worker) = @_;
    $worker->{to} = time;
    $t->node->stop('immediate');
    $t->node->start;
    return;
}

sub all_done { return $t->sql("SELECT NOT EXISTS (SELECT FROM pfa_write_queue WHERE status IN ('pending', 'processing'))") eq 't' }

# Nothing can follow from here; what the database says of it.
sub give_up
{
    my ($reason) = @_;
    diag($_) for $t->sql('SELECT status, waits_for, held, next_request, outcome_unknown, scheduled_at > now() AS later, count(*) FROM pfa_write_queue'
          . ' WHERE unfinished GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 7 DESC'),
      $t->sql('SELECT row_to_json(w) FROM pems_worker w'), $t->sql('SELECT row_to_json(e) FROM pems_endpoints e'),
      $t->sql('SELECT count(*) FROM pems_recheck'), $t->sql('SELECT pems_health()');
    BAIL_OUT($reason);
}

my $begin = time;
my %kills = (worker => 0, server => 0);
for my $round (1 .. $kill_points)
{
    my $worker = new_worker();
    end_commits();
    resolve_conflicts();
    commit_more();
    # work is seen under way, and then a random moment later; on a slow machine all may be done before this session looks
    my $mark = $fake->mark + rand 30;
    $t->wait_until(sub { $fake->mark > $mark || all_done() }, what => 'requests') or give_up('nothing is sent');
    begin_commit() if rand() < 0.2;
    sleep rand 0.05;
    my $whole = $round == 1 || rand() < 0.25;
    $kills{ $whole ? 'server' : 'worker' }++;
    $whole ? stop_server($worker) : kill_worker($worker);
    note sprintf '%d of %d kill points, %d edits, %d s', $round, $kill_points, scalar keys %edits, time - $begin if $round % 50 == 0;
}
new_worker();
end_commits();
my $seconds = time - $begin;
do { ok($t->quiet(timeout => 120), 'all work is done') } while (resolve_conflicts());
$lives[-1]{to} = time;

# ---------- what was under way was taken up in time ----------

my %item_of = map { $_->{modification_id} => $_->{id} } $t->rows('SELECT id, modification_id FROM pfa_write_queue');
my %edit_of = map { $item_of{$_} => $edits{$_} } grep { defined $item_of{$_} } keys %edits;
my (%request, @changes);    # sequence number => { item, attempt, at }; what PEMS did, in its order

# The log's clock is CLOCK_MONOTONIC; here it is the time of day.
my $epoch = time - clock_gettime(CLOCK_MONOTONIC);
open my $log, '<', $fake->log_file or die $fake->log_file . ": $!";
while (defined(my $line = readline $log))
{
    my $entry = JSON::PP::decode_json($line);
    push @changes, $entry if $entry->{kind} eq 'change';
    next if $entry->{kind} ne 'request';
    my ($item, $attempt) = $entry->{requestId} =~ /^(.*):(\d+)$/;
    $request{ $entry->{seq} } = { item => $item, attempt => $attempt, at => $entry->{monotonicUs} / 1e6 + $epoch };
}
close $log;

# The moments at which each item was certainly worked on: PEMS got a request, or the worker had claimed it when
# it was killed (and the request may never have left).
my @orphans = $t->rows("SELECT item_id AS item, attempt, extract(epoch FROM at)::double precision AS at FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN' AND error LIKE 'The worker ended%'");
my %hit;
my %worked_on;    # item => attempt => seconds since the epoch
$worked_on{ $_->{item} }{ $_->{attempt} } = $_->{at} for values %request;
for my $orphan (@orphans)
{
    ($orphan->{life}) = grep { $lives[$_]{from} <= $orphan->{at} } reverse 0 .. $#lives;
    $hit{ $orphan->{life} } = 1;
    $worked_on{ $orphan->{item} }{ $orphan->{attempt} } //= $lives[ $orphan->{life} - 1 ]{to};
}

# Seconds from the start of the worker that found the item in processing to the next work on it, without
# those in which there was no worker.  undef: there was none any more.
sub seconds_until_taken_up
{
    my ($orphan) = @_;
    my $attempts = $worked_on{ $orphan->{item} };
    my ($next) = sort { $a <=> $b } grep { $_ > $orphan->{attempt} } keys %$attempts;
    return if !defined $next;
    my $seconds = 0;
    for my $life (@lives[ $orphan->{life} .. $#lives ])
    {
        last if $life->{from} > $attempts->{$next};
        $seconds += ($attempts->{$next} < $life->{to} ? $attempts->{$next} : $life->{to}) - $life->{from};
    }
    return $seconds;
}

my $longest = 0;
my @late;
for my $orphan (@orphans)
{
    my $after = seconds_until_taken_up($orphan);
    $longest = $after if defined $after && $after > $longest;
    push @late, "$orphan->{item}:$orphan->{attempt} " . ($after // 'never') if !defined $after || $after > TAKEN_UP + SLACK;
}
is(scalar(@late), 0, scalar(@orphans) . ' requests were under way in ' . scalar(keys %hit) . " of $kill_points kills, and taken up within five seconds")
  or diag("too late: @{[ first_few(@late) ]}");
cmp_ok(scalar(keys %hit), '>=', $kill_points / 2, 'most kills hit requests under way');

# ---------- what PEMS has ----------

my %times = map { $_ => 0 } keys %edit_of;
my %setter;    # record and field => number of the edit that set it last
my @overwritten;
for my $change (grep { $_->{by} eq 'client' } @changes)
{
    my $item = $request{ $change->{requestSeq} }{item};
    my $edit = $edit_of{$item};
    $times{$item}++;
    for my $field (keys %{ $change->{changes} })
    {
        my $place = "$change->{pfaId} $field";
        push @overwritten, "$place, by a write of another field" if $field ne $edit->{field};
        push @overwritten, "$place, by an older edit"            if ($setter{$place} // 0) > $edit->{number};
        $setter{$place} = $edit->{number};
    }
}
my %records = map { $_->{pfaId} => $_->{data} } @{ $fake->records };
push @overwritten, "$_, at the end" for grep { my ($pfa_id, $field) = split; $records{$pfa_id}{$field} ne $newest{$_}{value} } keys %newest;
push @overwritten, "$_ description, at the end" for grep { $records{$_}{description} ne $described{$_} } keys %described;

my @lost       = grep { !$times{ $item_of{$_} // '' } } keys %edits;
my @duplicated = grep { $times{$_} > 1 } keys %times;
my $verdict    = sprintf '%d kill points: lost %d, duplicated %d, overwritten %d', $kills{worker} + $kills{server}, scalar @lost, scalar @duplicated, scalar @overwritten;
is($verdict, "$kill_points kill points: lost 0, duplicated 0, overwritten 0", 'PEMS has every edit once, and no newer value was overwritten')
  or diag("lost: @{[ first_few(@lost) ]}\nduplicated: @{[ first_few(@duplicated) ]}\noverwritten: @{[ first_few(@overwritten) ]}");
is($t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = 'synced'"), scalar(keys %edits), 'every edit is synced');

note $verdict;
note sprintf '%d edits (%d decided by their users); the worker was killed %d times, the server %d times, in %d s (%.2f s each)', scalar keys %edits, $resolved, $kills{worker}, $kills{server}, $seconds, $seconds / $kill_points;
note sprintf '%d requests were under way in %d of the kills; taken up after %.1f s at the latest', scalar @orphans, scalar keys %hit, $longest;

diag("SEED=$seed") if !Test::More->builder->is_passing;
$t->finish;
