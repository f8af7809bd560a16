# The worker goes on where its last claim ended.  What becomes ready before that position is found at once all the same, whoever
# made it ready, and the poll is an hour away: what is not found is not sent.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

# At once, and what a noisy machine adds.
use constant PROMPT => 20;
# A claim looks at the whole line about once a second anyway; so things are tried several times, close to one another.
use constant ROUNDS => 8;

my $t = PemsSync::Test->new('line', settings => { rate_limit => 0, poll_interval => '1h', retry_delay => '100ms', max_in_flight => 32, request_timeout => '10min' });
$t->add_organization('RIO');
my $fake = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', 400);
my $next    = 0;

# Drafts of records that nobody has edited yet, so that none waits for another.
sub drafts
{
    my ($count) = @_;
    my @wanted = @pfa_ids[ $next .. $next + $count - 1 ];
    $next += $count;
    return $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @wanted);
}

sub session
{
    my $session = $t->node->background_psql('postgres');
    $session->query_safe('BEGIN');
    return $session;
}

sub count_of
{
    my ($status, @ids) = @_;
    return $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = '$status' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')');
}

sub all_synced
{
    my ($name, @ids) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($t->wait_until(sub { count_of('synced', @ids) == @ids }, what => 'all edits', timeout => PROMPT * 3), $name);
}

# At which position the item of a modification stands, and whether that is before another's.
sub is_ahead
{
    my ($id, $other) = @_;
    return $t->sql("SELECT (a.scheduled_at, a.commit_seq) < (b.scheduled_at, b.commit_seq) FROM pfa_write_queue a, pfa_write_queue b "
          . "WHERE a.modification_id = '$id' AND b.modification_id = '$other'") eq 't';
}

# Modifications in the order in which PEMS saw their requests.
sub order_of_requests
{
    my ($mark) = @_;
    my %modification = map { $_->{id} => $_->{modification_id} } $t->rows('SELECT id, modification_id FROM pfa_write_queue');
    return map { $modification{ $_->{requestId} =~ s/:.*//r } } $fake->requests(since => $mark);
}

# How many other requests PEMS saw before the last of these.
sub others_before
{
    my ($mark, @ids) = @_;
    my %wanted = map { $_ => 1 } @ids;
    my $others = 0;
    for my $id (order_of_requests($mark))
    {
        delete $wanted{$id} ? 0 : $others++;
        last if !%wanted;
    }
    return %wanted ? 'not all were sent' : $others;
}

# ---- a transaction that began long before others ----

my ($found, $ahead) = (0, 0);
for my $round (1 .. ROUNDS)
{
    my ($late, $other) = drafts(2);
    my $session = session();
    $session->query_safe(PemsSync::Test::commit_statement('RIO', [$late]));
    $t->commit('RIO', [$other]);
    $t->wait_status($other, 'synced');
    $session->query_safe('COMMIT');
    $session->quit;
    $found += $t->wait_status($late, 'synced', timeout => PROMPT);
    $ahead += is_ahead($late, $other);
}
is($ahead, ROUNDS, 'an edit that commits late stands ahead of what was sent meanwhile');
is($found, ROUNDS, 'and is sent at once');

# The same where a transaction that sends nothing has the older snapshot, and with a rolled-back part.
{
    my ($kept, $undone, $other) = drafts(3);
    my $session = session();
    $session->query_safe('SAVEPOINT a');
    $session->query_safe(PemsSync::Test::commit_statement('RIO', [$undone]));
    $session->query_safe('ROLLBACK TO a');
    $session->query_safe(PemsSync::Test::commit_statement('RIO', [$kept]));
    $t->commit('RIO', [$other]);
    $t->wait_status($other, 'synced');
    $session->query_safe('COMMIT');
    $session->quit;
    ok($t->wait_status($kept, 'synced', timeout => PROMPT), 'what such a transaction kept is sent');
    is(count_of('draft', $undone), 1, 'what it undid is not');
}

# ---- an administrator's UPDATE ----

$found = 0;
for my $round (1 .. ROUNDS)
{
    my ($waiting, $other) = drafts(2);
    $t->sql("BEGIN; " . PemsSync::Test::commit_statement('RIO', [$waiting]) . ";
        UPDATE pfa_write_queue SET waits_for = 'time', scheduled_at = '2100-01-01' WHERE modification_id = '$waiting'; COMMIT");
    $t->commit('RIO', [$other]);
    $t->wait_status($other, 'synced');
    $t->sql("UPDATE pfa_write_queue SET waits_for = NULL, scheduled_at = '2025-01-01' WHERE modification_id = '$waiting'");
    $found += $t->wait_status($waiting, 'synced', timeout => PROMPT);
}
is($found, ROUNDS, 'an item that is made ready by hand, long overdue, is sent at once');

# ---- a backlog at the rate limit ----

# Of what waits at a limit only what may start within the next moment is claimed.
use constant LIMIT => 10;
# What may be sent before: what was claimed already, and what a noisy machine sends before the statement of the test has run.
use constant AHEAD => 3 * LIMIT;
$t->set(rate_limit => LIMIT);
my @low    = drafts(60);
my @normal = drafts(60);
my @high   = drafts(3);
my ($late) = drafts(1);
my @raised = @low[ 54 .. 59 ];
my $session = session();
$session->query_safe(PemsSync::Test::commit_statement('RIO', [$late], priority => 'high'));
$t->commit('RIO', \@low, priority => 'low');
$t->commit('RIO', \@normal);
my $mark = $fake->mark;
ok($t->wait_until(sub { $fake->requests(since => $mark) >= 5 }, what => 'five requests'), 'a backlog of low and normal priority drains at its limit');
cmp_ok(count_of('synced', @low), '<=', AHEAD, 'normal before low');

$mark = $fake->mark;
$t->commit('RIO', \@high, priority => 'high');
ok($t->wait_until(sub { count_of('synced', @high) == @high }, what => 'the high ones', timeout => PROMPT), 'edits of high priority are synced');
cmp_ok(others_before($mark, @high), '<=', AHEAD, 'before the rest');

$mark = $fake->mark;
$session->query_safe('COMMIT');
$session->quit;
ok($t->wait_status($late, 'synced', timeout => PROMPT), 'so is one that commits late');
ok(is_ahead($late, $high[0]), 'which stands ahead of high ones that were sent');
cmp_ok(others_before($mark, $late), '<=', AHEAD, 'it goes before the rest, too');

$mark = $fake->mark;
$t->sql("SELECT pems_write_sync('org-rio', " . PemsSync::Test::text_array(\@raised) . ", 'high')");
ok($t->wait_until(sub { count_of('synced', @raised) == @raised }, what => 'the raised ones', timeout => PROMPT), 'pems_write_sync() with high priority sends its items');
cmp_ok(others_before($mark, @raised), '<=', AHEAD, 'before the rest');
cmp_ok(count_of('synced', @low, @normal), '<', @low + @normal, 'which still waits');

# all the others change to a line in which the worker has come further
$t->sql("SELECT pems_write_sync('org-rio', priority => 'low')");
$t->set(rate_limit => 0);
all_synced('pems_write_sync() of the whole queue with low priority: all are sent', @low, @normal);

# ---- items that only look ready ----

# As many as a claim may take are sent back to wait for their turn; what stands behind them goes on.
$t->set(rate_limit => 1);
{
    my ($dead) = drafts(1);
    my $pfa_id = $pfa_ids[ $next - 1 ];
    my ($fault) = $fake->fault({ pfaId => $pfa_id, status => 400 });
    $t->commit('RIO', [$dead]);
    ok($t->wait_status($dead, 'failed'), 'a dead letter');
    $fake->clear_faults($fault);
    my @held = map { $t->commit_edit('RIO', $pfa_id, { monthlyRate => $_ }) } 1 .. 3;
    is($t->sql('SELECT count(*) FROM pfa_write_queue WHERE held'), '3', 'with three edits behind it');
    my @free = drafts(4);
    $t->sql("BEGIN; UPDATE pfa_write_queue SET waits_for = NULL, scheduled_at = '2025-01-01' WHERE held; "
          . PemsSync::Test::commit_statement('RIO', \@free) . '; COMMIT');
    all_synced('three that are taken for ready by hand do not stop the others', @free);
    is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE held"), '3', 'they wait for their turn again');
    $t->set(rate_limit => 0);
    $t->sql("SELECT pems_discard('$dead')");
    all_synced('until the dead letter is discarded', @held);
}

# ---- an item that a session had locked ----

{
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now');
    my ($locked, @first) = drafts(4);
    $t->commit('RIO', [ $locked, @first ]);
    my $holder = session();
    $holder->query_safe("SELECT FROM pfa_write_queue WHERE modification_id = '$locked' FOR UPDATE");
    $t->set(enabled => 'on');
    all_synced('a ready item that a session has locked is passed over', @first);
    is(count_of('queued', $locked), 1, 'it waits');
    # several sweeps pass over it; none may take it for done
    for my $round (1 .. 3)
    {
        sleep 2;
        all_synced('others go on', my ($one) = map { $t->commit('RIO', [$_]); $_ } drafts(1));
    }
    is(count_of('queued', $locked), 1, 'it still waits');
    $holder->query_safe('ROLLBACK');
    $holder->quit;
    # nobody tells the worker; it looks while it works
    ok($t->wait_until(sub { $t->commit('RIO', [ drafts(1) ]); count_of('synced', $locked) == 1 }, what => 'the one that was locked', timeout => PROMPT),
        'when the session rolled back it is sent with further edits');
}

# ---- pems_claim ----

# Every item in processing is named there, whatever the worker is at.
my $unnamed = <<'SQL';
SELECT count(*) FROM pfa_write_queue q
WHERE q.status = 'processing' AND NOT EXISTS (SELECT FROM pems_claim c WHERE c.claim_token = q.claim_token AND q.id = ANY (c.item_ids))
SQL

{
    $fake->fault({ delayMs => 20 });
    my @many = drafts(100);
    $t->commit('RIO', \@many);
    my ($nameless, $seen) = (0, 0);
    $t->wait_until(sub {
        $nameless += $t->sql($unnamed);
        $seen += $t->sql("SELECT count(*) FROM pems_claim");
        return count_of('synced', @many) == @many;
    }, what => 'a hundred edits');
    is($nameless, 0, 'what is in processing is named in pems_claim');
    cmp_ok($seen, '>', 0, 'while it is');
    $fake->clear_faults;
    # what the last outcomes were of goes with the next ones
    all_synced('one more edit', my ($one) = map { $t->commit('RIO', [$_]); $_ } drafts(1));
    is($t->sql("SELECT string_agg(q.modification_id, ' ') FROM pems_claim c LEFT JOIN pfa_write_queue q ON q.id = ANY (c.item_ids)"), $one,
        'at rest the last claim stands there, and no other');
}

# ---- a stock that waits ----

# PEMS was fast, so there is a stock of claimed items; then it becomes slow, and no more requests can start.
my @busy = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } $t->load_many('RIO', 'BUSY-', 1000));
$fake->fault({ after => 50, delayMs => 5000 });
$t->commit('RIO', \@busy);
ok($t->wait_until(sub { $fake->stats->{waiting} == 32 }, what => '32 slow requests'), 'PEMS becomes slow in the midst of it');
note $t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'processing'"), ' are claimed';
$t->is_calm('while all requests are slow');
$fake->clear_faults;
all_synced('and the rest is sent', @busy);

# ---- an endpoint that hangs while a stock of its items is claimed ----

$t->add_fake('hanging');
$t->add_organization('STUCK', fake => 'hanging');
my $hanging = $t->fake('hanging');
my @records = $t->load_many('STUCK', 'PFA-', 1500);
my @stuck   = $t->edits('STUCK', map { [ $_, { monthlyRate => 1 } ] } @records);
$hanging->fault({ after => 50, hang => JSON::PP::true });
$t->commit('STUCK', \@stuck);
ok($t->wait_until(sub { $hanging->stats->{waiting} >= 10 }, what => 'requests that hang'), 'an endpoint with a long line begins to hang');
cmp_ok(count_of('synced', @stuck), '<', @stuck, 'in the midst of it');
$t->is_calm('while an endpoint hangs');
for my $round (1 .. 3)
{
    my ($edit) = drafts(1);
    $t->commit('RIO', [$edit]);
    ok($t->wait_status($edit, 'synced', timeout => PROMPT), 'an edit of another endpoint goes out');
}
cmp_ok($hanging->stats->{waiting}, '<', 32, 'the one that hangs does not have all the slots');
ok($t->wait_until(sub { $t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'processing' AND organization_id = 'org-stuck'") == $hanging->stats->{waiting} },
    what => 'the stock goes back'), 'what was claimed for it and could not start is pending again');
is($t->sql($unnamed), '0', 'what hangs is named in pems_claim');

$hanging->clear_faults;
$t->sql('SELECT pg_terminate_backend(pid) FROM pems_worker');
ok($t->wait_until(sub { count_of('synced', @stuck) == @stuck }, what => 'all edits', timeout => 120), 'a new worker takes up what hung, and sends the rest');

$t->finish;
