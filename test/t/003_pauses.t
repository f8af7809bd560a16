# Answers that stop more than one item: a refused credential pauses the organization, a 429 the
# endpoint.  Neither costs an item a retry.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('pauses',
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1, max_in_flight => 8, poll_interval => '1h' });
my %seconds = (SECONDS => 2, DATE => 3, ZERO => 1, NONSENSE => 5);
$t->add_organization($_) for qw(RIO LOCKED SHUT);
for my $code (sort keys %seconds)
{
    $t->add_fake(lc $code);
    $t->add_organization($code, fake => lc $code);
    $t->load($code, map { "PFA-$_" } 1 .. 4);
}
my $fake = $t->fake;
my $json = JSON::PP->new;

sub epoch
{
    my ($time) = @_;
    return $t->sql("SELECT extract(epoch FROM '$time'::timestamptz)");
}

sub status_of
{
    my ($code) = @_;
    return $json->decode($t->sql('SELECT pems_sync_status(' . PemsSync::Test::quote(PemsSync::Test::id_of($code)) . ')'));
}

# ---- 429: begun here, looked at below, so that all the waiting goes on at the same time ----

my %retry_after = (
    SECONDS  => { retryAfter => '2' },
    # PEMS's clock is two hours ahead: the date is measured against its own
    DATE     => { retryAfterDateSeconds => 3, dateSkewSeconds => 7200 },
    ZERO     => { retryAfter => '0' },
    NONSENSE => { retryAfter => 'a little while' });
my %first;
for my $code (sort keys %retry_after)
{
    $t->fake_of($code)->fault({ count => 1, %{ $retry_after{$code} } });
    $first{$code} = $t->commit_edit($code, 'PFA-1', { monthlyRate => 1 });
}
for my $code (sort keys %retry_after)
{
    ok($t->wait_until(sub { $t->fake_of($code)->requests > 0 }, what => 'a request'), "$code: PEMS answers 429");
    $t->commit($code, [ $t->edits($code, map { [ "PFA-$_", { monthlyRate => $_ } ] } 2 .. 4) ]);
}
$t->is_calm('while endpoints are throttled');

# ---- 401 in the middle of a batch ----

my $position = $t->log_position;
my @rio    = $t->load_many('RIO', 'PFA-', 20);
my @locked = $t->load_many('LOCKED', 'PFA-', 60);
my ($slow) = $fake->fault({ organizationCode => 'LOCKED', delayMs => 500 });
my @ids = $t->edits('LOCKED', map { [ $_, { monthlyRate => 10 } ] } @locked);
$t->commit('LOCKED', \@ids);
ok($t->wait_until(sub { $fake->changes(organizationCode => 'LOCKED', by => 'client') >= 10 }, what => 'ten changes'), 'ten edits are through');
$fake->add_organization('LOCKED', 'the-new-token');
ok($t->wait_for("SELECT EXISTS (SELECT FROM pems_pause WHERE organization_id = 'org-locked' AND cause = 'credential')"),
    'the organization is paused when PEMS refuses its token');
ok($t->wait_for("SELECT NOT EXISTS (SELECT FROM pfa_write_queue WHERE organization_id = 'org-locked' AND status = 'processing')"),
    'nothing of it is under way');
is_deeply([ map { $_->{id} } $t->rows("SELECT id FROM pfa_write_queue WHERE retry_count > 0 OR status = 'failed'") ], [], 'no item lost a retry');
my $refused = grep { $_->{status} == 401 } $fake->requests(organizationCode => 'LOCKED');
cmp_ok($refused, '>', 0, 'PEMS said 401');
cmp_ok($refused, '<=', 8, 'and no more often than requests were under way');
is($t->sql("SELECT DISTINCT error_code FROM pems_audit_log WHERE organization_id = 'org-locked' AND http_status = 401"), 'UNAUTHORIZED', 'the audit log says so');
is(status_of('LOCKED')->{paused}, JSON::PP::true, 'the status says that it is paused');
is(status_of('LOCKED')->{nextSyncAt}, undef, 'and that nothing is due');
is($t->sql("SELECT pems_write_sync('org-locked', priority => 'normal') -> 'estimatedCompletionTime'"), 'null', 'nor that it will be done');
is(status_of('RIO')->{paused}, JSON::PP::false, 'and that another is not');

# Others go on; what is committed meanwhile waits.
$t->commit('RIO', [ $t->edits('RIO', map { [ $_, { monthlyRate => 20 } ] } @rio) ]);
my $more = $t->commit_edit('LOCKED', $locked[0], { dor => 'PROJECT' });
ok($t->wait_for("SELECT count(*) = 20 FROM pfa_write_queue WHERE organization_id = 'org-rio' AND status = 'completed'"),
    'another organization on the same endpoint goes on');
is(scalar(grep { $_->{status} == 401 } $fake->requests(organizationCode => 'LOCKED')), $refused, 'the paused one sends nothing');
$t->is_calm('while an organization is paused');

# The wrong token once more: it goes on, and is paused again.
$t->set_credential('LOCKED', 'still-wrong');
ok($t->wait_until(sub { grep({ $_->{status} == 401 } $fake->requests(organizationCode => 'LOCKED')) > $refused }, what => 'another 401'),
    'a new credential lets it go on');
ok($t->wait_for("SELECT count(*) = 2 FROM pems_audit_log WHERE event_type = 'PAUSED' AND organization_id = 'org-locked'"), 'and a wrong one pauses it again');
$t->set_credential('LOCKED', 'the-new-token');
ok($t->wait_for("SELECT count(*) = 61 FROM pfa_modification WHERE organization_id = 'org-locked' AND sync_status = 'synced'"),
    'with the right one all its edits arrive');
is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE organization_id = 'org-locked' AND retry_count > 0"), '0', 'without having lost a retry');
my $log = $t->log_since($position);
is(scalar(() = $log =~ /WARNING:.*PEMS refuses the credential of organization "org-locked"/g), 2, 'the log has one warning per pause');
is($t->sql("SELECT string_agg(event_type, ' ' ORDER BY at) FROM pems_audit_log WHERE organization_id = 'org-locked' AND item_id IS NULL"),
    'CREDENTIAL_CHANGED PAUSED CREDENTIAL_CHANGED PAUSED CREDENTIAL_CHANGED', 'the audit log has the story');
$fake->clear_faults($slow);

# ---- 403 on the organization as a whole ----

$t->load('SHUT', 'PFA-1', 'PFA-2');
$fake->fault({ organizationCode => 'SHUT', status => 403, error => 'ORGANIZATION_SUSPENDED', count => 1 });
my $shut = $t->commit_edit('SHUT', 'PFA-1', { monthlyRate => 30 });
ok($t->wait_for("SELECT EXISTS (SELECT FROM pems_pause WHERE organization_id = 'org-shut')"), 'a 403 on the organization pauses it');
is($t->attempts($shut), 'PUT 403 FORBIDDEN', 'error_code FORBIDDEN');
is($t->item($shut)->{status}, 'pending', 'its item waits');
$t->sql("SELECT pems_resume('org-shut')");
ok($t->wait_status($shut, 'synced'), 'pems_resume lets it go on');
is($t->item($shut)->{retry_count}, 0, 'with all its retries');

# An administrator's pause.
$t->sql("SELECT pems_pause('org-shut', 'inventory')");
my $paused = $t->commit_edit('SHUT', 'PFA-2', { monthlyRate => 31 });
my $control = $t->commit_edit('RIO', $rio[0], { monthlyRate => 32 });
ok($t->wait_status($control, 'synced'), 'an edit of another organization arrives');
is($t->item($paused)->{attempt}, 0, 'one of the paused organization is not tried');
$t->sql("SELECT pems_resume('org-shut')");
ok($t->wait_status($paused, 'synced'), 'until it is resumed');

# ---- 429: what became of it ----

for my $code (sort keys %seconds)
{
    my $endpoint = $t->fake_of($code);
    my $id       = PemsSync::Test::id_of($code);
    ok($t->wait_for("SELECT count(*) = 4 FROM pfa_modification WHERE organization_id = '$id' AND sync_status = 'synced'"), "$code: all edits arrive");
    my ($first, @rest) = $endpoint->requests;
    is($first->{status}, 429, "$code: the first request was throttled");
    my $gap = $t->sql("SELECT extract(epoch FROM '$rest[0]{at}'::timestamptz - '$first->{at}'::timestamptz)");
    # an HTTP date has no fractions of a second
    my $least = $code eq 'DATE' ? $seconds{$code} - 1 : $seconds{$code};
    cmp_ok($gap, '>=', $least - 0.01, "$code: then the whole endpoint waits");
    cmp_ok($gap, '<',  $seconds{$code} + 15, "$code: but no longer than it must");
    is($t->sql("SELECT max(retry_count) FROM pfa_write_queue WHERE organization_id = '$id'"), '0', "$code: which costs no retry");
    is($t->attempts($first{$code}), 'PUT 429 RATE_LIMITED, PUT 200', "$code: the audit log");
}

$t->finish;
