# Read sync when PEMS misbehaves, when nobody lets it work, and beside the writes: pages that fail, cursors, refusals,
# cancelled pulls, locked rows, shares of the requests.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Pulls;
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(sleep time);

my $json = JSON::PP->new->canonical->allow_nonref->utf8(0);
my $true = JSON::PP::true;

my $t = PemsSync::Test->new('pull_faults',
    settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1h', pull_page_size => 10, max_in_flight => 8 });
my $fake = $t->fake;
my $p    = PemsSync::Pulls->new($t);

sub counts { return PemsSync::Pulls::counts(@_) }
sub id_of  { return PemsSync::Test::id_of(@_) }

# An organization with so many records in PEMS, and none here.
sub full_pems
{
    my ($code, $count, %options) = @_;
    $t->add_organization($code, %options);
    return $p->many_in_pems($code, 'PFA-', $count);
}

# One test: the worker makes next to no transactions in a second.  (How much of the processor it has says little on a
# machine that is busy.)
sub is_idle
{
    my ($name) = @_;
    my $count = q{SELECT pg_stat_force_next_flush(), xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()};
    $count =~ s/pg_stat_force_next_flush\(\), //;
    my $before = $t->sql($count);
    sleep 2;
    my $made = $t->sql($count) - $before;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return cmp_ok($made, '<', 30, "the worker does next to nothing: $name");
}

# A session that stays open.
sub session { return $t->node->background_psql('postgres', on_error_stop => 0) }

# ---------- pages that fail ----------

subtest 'a page in the middle fails' => sub {
    full_pems('MID', 25);
    my $created = 25;
    for my $case ([ 'a 500', status => 500 ], [ 'a 503', status => 503 ], [ 'truncated JSON', truncate => $true ], [ 'a reset', dropBeforeApply => $true, reset => $true ],
        [ 'HTML', html => $true ], [ 'an empty body', emptyBody => $true ], [ 'no JSON', garbage => $true ], [ 'success:false', successFalse => $true ])
    {
        my ($name, %fault) = @$case;
        $fake->clear_faults;
        $fake->fault({ organizationCode => 'MID', call => 'list', page => 2, count => 2, %fault });
        my $mark = $fake->mark;
        my $job  = $p->pull('MID', mode => 'full');
        if ($name eq 'success:false')
        {
            is($job->{status}, 'completed_with_failures', "$name: PEMS refuses, so the pull fails");
            next;
        }
        is(counts($job), 'completed ' . ($created ? 'created 25' : 'unchanged 25'), "$name: the pull goes on") or diag explain $job;
        is($p->pages_asked('MID', $mark), '1 2 2 2 3', 'at the page') if $name !~ /reset/;
        is($job->{error}, undef, 'and in the end all is well');
        $created = 0;
    }
    $p->same_as_pems('MID');
    $fake->clear_faults;
    $p->pull('MID');
};

subtest 'a page keeps failing' => sub {
    full_pems('KEEP', 25);
    $fake->fault({ organizationCode => 'KEEP', call => 'list', page => 2, status => 500 });
    my $id = $p->begin('KEEP');
    ok($t->wait_for("SELECT failures >= 4 FROM pems_pull_state WHERE job_id = '$id'"), 'it fails four times');
    my $state = $p->state($id);
    is("$state->{pages} $state->{created}", '1 10', 'the first page is stored');
    is($t->sql("SELECT next_at - clock_timestamp() > interval '30 seconds' FROM pems_pull_state WHERE job_id = '$id'"), 't', 'then it waits a minute');
    my $job = $p->job($id);
    is("$job->{status} $job->{errorCode}", 'running SERVER_ERROR', 'it is not given up');
    like($t->sql("SELECT last_error FROM pems_pulls WHERE job_id = '$id'"), qr/500/, 'and says why it waits');
    # another listing waits behind it, and a single record does not
    my $behind = $p->begin('KEEP', mode => 'adopt');
    is_idle('a listing waits behind one that failed');
    is(counts($p->pull('KEEP', pfa_id => 'PFA-0020')), 'completed created 1', 'a single record goes on');
    $t->sql("SELECT pems_cancel('$id')");
    $fake->clear_faults;
    is($p->end($behind)->{status}, 'completed', 'the other listing comes then');
    is($p->job($id)->{status}, 'cancelled', 'one that waits is cancelled at once');
};

subtest 'an answer that is too large' => sub {
    full_pems('BIG', 5);
    $t->set(pull_max_response_size => '1MB');
    $t->wait_for("SELECT current_setting('pems_sync.pull_max_response_size') = '1MB'");
    $fake->fault({ organizationCode => 'BIG', call => 'list', padding => 2_000_000, count => 1 });
    my $job = $p->pull('BIG');
    is("$job->{status} $job->{errorCode}", 'completed_with_failures RESPONSE_TOO_LARGE', 'is cut, and the pull fails');
    like($job->{error}, qr/pull_max_response_size|pull_page_size/, 'with a sentence that names the setting') or diag $job->{error};
    is(counts($p->pull('BIG')), 'completed created 5', 'later it is well');
};

subtest 'a listing without an end' => sub {
    full_pems('LOOP', 45);
    for my $case ([ 'the same cursor again', 2, 2 ], [ 'a circle', 4, 2 ])
    {
        my ($name, $page, $back) = @$case;
        my $id = $fake->turn_listing('LOOP', $page, $back);
        my $job = $p->pull('LOOP', mode => 'full');
        is("$job->{status} $job->{errorCode}", 'completed_with_failures CURSOR_REPEATED', "$name: it fails");
        like($job->{error}, qr/would never end/, 'with a sentence');
        is($p->watermark('LOOP'), '', 'the watermark does not move');
        is(scalar($p->problems(qr/LOOP.*would never end/)), 1, 'pems_health() says so');
        $fake->clear_faults($id);
    }
    is($t->sql("SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-loop' AND deleted_at IS NULL"), 40, 'what was stored stays');
    is($p->pull('LOOP')->{status}, 'completed', 'and later it ends well');
    $p->same_as_pems('LOOP');
    $p->nothing_left;
};

subtest 'a cursor that has expired' => sub {
    full_pems('EXP', 25);
    my $mark = $fake->mark;
    $fake->refuse_cursors('EXP', 3, 410, count => 1);
    is(counts($p->pull('EXP')), 'completed created 25', 'the listing is begun again');
    is($p->pages_asked('EXP', $mark), '1 2 3 1 2 3', 'once');
    for my $status (400, 404, 410)
    {
        $mark = $fake->mark;
        my $id = $fake->refuse_cursors('EXP', 2, $status);
        my $watermark = $p->watermark('EXP');
        my $job = $p->pull('EXP', mode => 'full');
        is("$job->{status} $job->{errorCode}", 'completed_with_failures CURSOR_REFUSED', "$status: the second time it fails");
        is($p->pages_asked('EXP', $mark), '1 2 1 2', 'and is not begun again');
        like($job->{error}, qr/refused a cursor, also after/, 'with a sentence');
        is($p->watermark('EXP'), $watermark, 'the watermark stays');
        $fake->clear_faults($id);
    }
    is($t->sql("SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-exp' AND deleted_at IS NULL"), 25, 'nothing is deleted');
};

# ---------- PEMS refuses, or asks to wait ----------

subtest 'the credential is refused' => sub {
    full_pems('CRED', 25);
    my $id = $p->begin('CRED', mode => 'full');
    $p->end($id);
    $fake->add_organization('CRED', 'another');
    my $mark = $fake->mark;
    $id = $p->begin('CRED', mode => 'full');
    my $other = $p->begin('CRED', pfa_id => 'PFA-0001');
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pems_pause WHERE organization_id = 'org-cred')"), 'the organization is paused');
    is_idle('an organization is paused');
    is(scalar($fake->requests(organizationCode => 'CRED', since => $mark)), 1, 'one request was made');
    is($t->sql("SELECT count(*) FROM pems_audit_log WHERE event_type = 'PAUSED' AND organization_id = 'org-cred'"), 1, 'one line in the audit log');
    like($p->job($_)->{error}, qr/credential|UNAUTHORIZED|401/i, 'each pull says why it waits') for $id, $other;
    # also another worker knows
    my $pid = $t->worker->{pid};
    $t->sql("SELECT pg_terminate_backend($pid)");
    ok($t->wait_worker(not_pid => $pid), 'another worker');
    is_idle('an organization is paused, and the worker is new');
    is(scalar($fake->requests(organizationCode => 'CRED', since => $mark)), 1, 'it makes no request either');
    $t->set_credential('CRED', 'another');
    is(counts($p->end($id)), 'completed unchanged 25', 'with a new credential the pull goes on');
    is($p->end($other)->{status}, 'completed', 'and the other');
};

subtest 'PEMS asks to wait' => sub {
    full_pems('SLOW', 25);
    $fake->fault({ organizationCode => 'SLOW', call => 'list', page => 2, retryAfter => '8', count => 1 });
    my $id = $p->begin('SLOW');
    ok($t->wait_for("SELECT error_code = 'RATE_LIMITED' FROM pems_pull_state WHERE job_id = '$id'"), 'it waits');
    like($p->job($id)->{error}, qr/429/, 'and says why');
    my $second = $p->begin('SLOW', pfa_id => 'PFA-0001');
    like($p->job($second)->{error}, qr/asked again at/, 'so does one that was not asked for yet');
    is_idle('PEMS asks to wait');
    is(counts($p->end($id)), 'completed created ' . (25 - $p->end($second)->{created}) . ' unchanged 1', 'later it goes on');
    my @requests = grep { ($_->{page} // 0) == 2 } $fake->listings(organizationCode => 'SLOW');
    cmp_ok(($requests[1]{monotonicUs} - $requests[0]{monotonicUs}) / 1e6, '>=', 7.9, 'not before');
};

subtest 'PEMS does not answer' => sub {
    $t->add_fake('down');
    $t->add_organization($_, fake => 'down') for qw(DOWN1 DOWN2);
    $p->many_in_pems('DOWN1', 'PFA-', 5);
    my $port = $t->fake('down')->port;
    $t->fake('down')->stop;
    my @jobs = ($p->begin('DOWN1'), map { $p->begin('DOWN1', pfa_id => "PFA-000$_") } 1 .. 3);
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pems_endpoints WHERE organization_id = 'org-down1' AND breaker <> 'closed')"), 'the breaker opens');
    ok($t->wait_for("SELECT error_code = 'NETWORK_ERROR' FROM pems_pull_state WHERE job_id = '$jobs[1]'"), 'a pull that has failed');
    my $fresh = $p->begin('DOWN2');
    like($p->job($_)->{error}, qr/NETWORK_ERROR|connect/i, 'says why') for $jobs[1], $fresh;
    like($p->job($fresh)->{error}, qr/does not answer/, 'also one that made no request');
    is_idle('PEMS does not answer');
    $t->sql("SELECT pems_cancel('$_')") for @jobs, $fresh;
    is($t->sql("SELECT string_agg(DISTINCT status, ' ') FROM pems_sync_job WHERE organization_id LIKE 'org-down%'"), 'cancelled', 'they can be cancelled');
    # the endpoint and its breaker go with the credentials
    $t->sql("DELETE FROM pems_credential WHERE organization_id LIKE 'org-down%'");
    like($p->job($p->begin('DOWN1'))->{error}, qr/no credential/, 'without a credential a pull says so, too');
    $t->sql("DELETE FROM organization WHERE id LIKE 'org-down%'");
    is($t->sql("SELECT count(*) FROM pems_pull_state WHERE organization_id LIKE 'org-down%'"), 0, 'and goes with its organization');
    delete $t->{fakes}{down};
    delete $t->{organizations}{$_} for qw(DOWN1 DOWN2);
};

# ---------- pems_cancel ----------

subtest 'a listing is cancelled' => sub {
    full_pems('STOP', 35);
    $fake->fault({ organizationCode => 'STOP', call => 'list', page => 2, delayMs => 4000 });
    my $id = $p->begin('STOP', mode => 'full');
    ok($t->wait_for("SELECT pages = 1 AND under_way FROM pems_pull_state WHERE job_id = '$id'"), 'the second page is on its way');
    is($json->decode($t->sql("SELECT pems_cancel('$id', 'org-stop', 'otto')"))->{jobId}, $id, 'pems_cancel()');
    is($p->job($id)->{status}, 'running', 'it ends after the page in flight');
    isnt($p->begin('STOP', mode => 'full'), $id, 'a new call gives another job');
    my $job = $p->end($id);
    is(counts($job), 'cancelled created 20', 'the page is stored');
    is($job->{cancelledBy}, 'otto', 'by whom');
    is($t->sql("SELECT actor FROM pems_audit_log WHERE event_type = 'PULL_CANCELLED' AND job_id = '$id'"), 'otto', 'it is in the audit log');
    $t->sql("SELECT pems_cancel(job_id) FROM pems_pull_state WHERE organization_id = 'org-stop' AND phase <> 'ended'");
    ok($t->wait_for("SELECT NOT EXISTS (SELECT FROM pems_pull_state WHERE organization_id = 'org-stop' AND phase <> 'ended')"), 'both have ended');
    is($p->watermark('STOP'), '', 'the watermark does not move');
    is($t->sql("SELECT count(*) >= 20 FROM pfa_mirror WHERE organization_id = 'org-stop' AND deleted_at IS NULL"), 't', 'what was stored stays');
    like($t->sql_error("SELECT pems_cancel('$id')"), qr/^55000: the pull of job/, 'it cannot be cancelled twice');
    $fake->clear_faults;
    $job = $p->pull('STOP');
    is("$job->{mode} $job->{status}", 'full completed', 'the next delta is a full one');
    $p->same_as_pems('STOP');
};

subtest 'a listing is cancelled while missing records are confirmed' => sub {
    my @ids = full_pems('CONF', 100);
    $p->pull('CONF');
    $fake->forget('CONF', @ids[ 0 .. 4 ]);
    $fake->fault({ organizationCode => 'CONF', call => 'read', after => 1, count => 1, delayMs => 5000 });
    my $id = $p->begin('CONF', mode => 'full');
    ok($t->wait_for("SELECT phase = 'confirming' AND deleted = 1 AND under_way FROM pems_pull_state WHERE job_id = '$id'"), 'the second is asked for');
    $t->sql("SELECT pems_cancel('$id')");
    is(counts($p->end($id)), 'cancelled deleted 2 unchanged 95', 'it ends after that one');
    $p->nothing_left;
    is(counts($p->pull('CONF', mode => 'full')), 'completed deleted 3 unchanged 95', 'the next one marks the others');
};

# ---------- sessions ----------

subtest 'a session has a record locked' => sub {
    full_pems('LOCK', 25);
    $p->pull('LOCK');
    $fake->edit(map { { organizationCode => 'LOCK', pfaId => sprintf('PFA-%04d', $_), changes => { monthlyRate => 1 } } } 1 .. 25);
    my $session = session();
    $session->query("BEGIN; SELECT FROM pfa_mirror WHERE organization_id = 'org-lock' AND pfa_id = 'PFA-0012' FOR UPDATE");
    my $id = $p->begin('LOCK');
    ok($t->wait_until(sub { $p->problems(qr/a pull could not go on/) }, what => 'a sentence'), 'the pull waits, and pems_health() says so');
    my @edits = map { $t->commit_edit('LOCK', $_, { model => 'written' }) } qw(PFA-0001 PFA-0024);
    ok($t->wait_status($_, 'synced', timeout => 15), 'writes go on') for @edits;
    is($p->job($id)->{status}, 'running', 'while the pull waits');
    $session->query('COMMIT');
    $session->quit;
    is($p->end($id)->{quarantined}, 0, 'then it goes on, and nothing is in quarantine');
    $p->same_as_pems('LOCK');
    ok($t->wait_until(sub { !$p->problems(qr/a pull could not go on/) }, what => 'the end of the sentence'), 'pems_health() is content');
};

subtest 'sessions that do not commit' => sub {
    full_pems($_, 5) for qw(OPEN1 OPEN2 OPEN3);
    $p->pull($_) for qw(OPEN1 OPEN2 OPEN3);
    $t->sql("SELECT pems_pause('org-open1')");
    my $held = $p->begin('OPEN1', mode => 'full');
    my ($canceller, $asker) = (session(), session());
    $canceller->query("BEGIN; SELECT pems_cancel('$held')");
    $asker->query("BEGIN; SELECT pems_pull('org-open3', NULL, 'delta')");
    $t->sql("SELECT pems_resume('org-open1')");
    my $start = time;
    $p->pull('OPEN2', mode => 'full') for 1 .. 3;
    my $edit = $t->commit_edit('OPEN2', 'PFA-0001', { monthlyRate => 9 });
    ok($t->wait_status($edit, 'synced', timeout => 10), 'others go on');
    is(scalar($p->problems(qr/a pull could not go on/)), 0, 'and no transaction of the worker fails');
    is_idle('sessions do not commit');
    $t->set(pull_interval => '1s');
    ok($t->wait_for("SELECT count(*) >= 2 FROM pems_sync_job WHERE organization_id = 'org-open2' AND requested_by = 'pems_sync'"), 'regular deltas of another organization');
    is(scalar($p->problems(qr/a pull could not go on/)), 0, 'do not wait either');
    $canceller->query('ROLLBACK');
    $asker->query('COMMIT');
    $_->quit for $canceller, $asker;
    is($p->end($held)->{status}, 'completed', 'what was not cancelled after all goes on');
    ok($t->wait_for("SELECT count(*) > 0 AND bool_or(status = 'completed') FROM pems_sync_job WHERE organization_id = 'org-open3' AND requested_by <> 'pems_sync' AND created_at > clock_timestamp() - interval '5 minutes'"), 'and what was asked for');
    $t->set(pull_interval => '0');
    $t->wait_for("SELECT current_setting('pems_sync.pull_interval') = '0'");
    $t->wait_for("SELECT NOT EXISTS (SELECT FROM pems_pull_state WHERE phase <> 'ended')");
};

# ---------- beside the writes, and beside each other ----------

subtest 'writes go on while a listing runs' => sub {
    full_pems('BESIDE', 400);
    my @ids = map { sprintf 'W-%04d', $_ } 1 .. 20;
    $t->load('BESIDE', @ids);
    $fake->fault({ organizationCode => 'BESIDE', call => 'list', delayMs => 300 });
    my $id = $p->begin('BESIDE', mode => 'full');
    ok($t->wait_for("SELECT pages >= 2 FROM pems_pull_state WHERE job_id = '$id'"), 'it has begun');
    my @edits = $t->edits('BESIDE', map { [ $_, { monthlyRate => 3 } ] } @ids);
    $t->commit('BESIDE', \@edits);
    ok($t->wait_for("SELECT count(*) = 20 FROM pfa_modification WHERE organization_id = 'org-beside' AND sync_status = 'synced'", timeout => 10), 'twenty edits are synced');
    is($p->job($id)->{status}, 'running', 'while it still runs');
    is(counts($p->pull('BESIDE', pfa_id => 'PFA-0400')), 'completed created 1', 'a single record goes ahead of it');
    is($p->job($id)->{status}, 'running', 'it still runs');
    is($p->end($id)->{status}, 'completed', 'and ends well');
    $fake->clear_faults;
    $p->same_as_pems('BESIDE');
};

subtest 'pages have a quarter of max_in_flight, and an organization has one' => sub {
    full_pems("Q$_", 30) for 1 .. 5;
    $fake->fault({ organizationCode => "Q$_", call => 'list', delayMs => 400 }) for 1 .. 5;
    my $mark = $fake->mark;
    my @jobs = map { $p->begin("Q$_", mode => 'full'), $p->begin("Q$_", mode => 'adopt') } 1 .. 5;
    my ($most, %most) = (0);
    $t->wait_until(sub {
        my %now;
        $now{ $_->{organization_id} }++ for $t->rows("SELECT organization_id FROM pems_pull_state WHERE under_way AND phase = 'listing' AND organization_id LIKE 'org-q_'");
        my $waiting = $fake->stats->{waiting};
        $most = $waiting if $waiting > $most;
        for my $id (keys %now) { $most{$id} = $now{$id} if $now{$id} > ($most{$id} // 0) }
        return $t->sql("SELECT NOT EXISTS (SELECT FROM pems_pull_state WHERE phase <> 'ended')") eq 't';
    }, what => 'ten listings');
    is($most, 2, 'two of eight requests are pages');
    is(join(' ', map { $most{$_} } sort keys %most), '1 1 1 1 1', 'of an organization one');
    is(join(' ', map { $p->job($_)->{status} } @jobs), join(' ', ('completed') x 10), 'all end well');
    # by turns: no organization has all its pages before another has one
    my @order = map { $_->{organizationCode} } $fake->listings(since => $mark);
    my %first;
    for my $i (0 .. $#order) { $first{ $order[$i] } //= $i }
    cmp_ok((sort { $b <=> $a } values %first)[0], '<', 10, 'they take turns');
    $fake->clear_faults;
};

# ---------- what goes while a pull runs ----------

subtest 'the organization is deleted' => sub {
    full_pems('GONE', 35);
    $fake->fault({ organizationCode => 'GONE', call => 'list', page => 2, delayMs => 1500 });
    my $id = $p->begin('GONE');
    ok($t->wait_for("SELECT pages = 1 AND under_way FROM pems_pull_state WHERE job_id = '$id'"), 'a page is on its way');
    $t->sql("DELETE FROM pfa_mirror WHERE organization_id = 'org-gone'; DELETE FROM organization WHERE id = 'org-gone'");
    sleep 3;
    is($t->sql("SELECT (SELECT count(*) FROM pems_pull_state WHERE organization_id = 'org-gone'), (SELECT count(*) FROM pems_pull_organization WHERE organization_id = 'org-gone'), (SELECT count(*) FROM pems_pull_seen WHERE job_id = '$id'), (SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-gone')"),
        '0|0|0|0', 'nothing of it is left');
    is($t->worker->{last_error}, undef, 'the worker is content');
    delete $t->{organizations}{GONE};
};

subtest 'the tables are detached, the extension is dropped' => sub {
    full_pems('DROP', 35);
    $fake->fault({ organizationCode => 'DROP', call => 'list', page => 2, delayMs => 1500, count => 2 });
    my $id = $p->begin('DROP', mode => 'full');
    ok($t->wait_for("SELECT pages = 1 AND under_way FROM pems_pull_state WHERE job_id = '$id'"), 'a page is on its way');
    $t->sql('SELECT pems_detach()');
    sleep 2.5;
    is($t->sql("SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-drop'"), 10, 'after pems_detach() nothing is stored');
    $t->sql('SELECT pems_attach()');
    is(counts($p->end($id)), 'completed created 35', 'after pems_attach() the pull goes on');
    $p->same_as_pems('DROP');

    $id = $p->begin('DROP', mode => 'full');
    ok($t->wait_for("SELECT pages = 1 AND under_way FROM pems_pull_state WHERE job_id = '$id'"), 'another page is on its way');
    $t->check('before the extension goes, the checker is content', '--running') if 0;
    my $pid = $t->worker->{pid};
    $t->sql('DROP EXTENSION pems_sync');
    sleep 2.5;
    is($t->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), 1, 'the worker lives');
    $t->sql('CREATE EXTENSION pems_sync; SELECT pems_attach()');
    $t->set_credential('DROP', 'token-of-DROP');
    is(counts($p->pull('DROP')), 'completed unchanged 35', 'and serves the next one');
    unlike($t->log_since(0), qr/PANIC|was terminated by signal/, 'nothing crashed');
};

$t->node->stop('fast');
done_testing();
