# Every class of answer, over real HTTP, against the real worker: what becomes of the item, which
# error_code it carries, what the audit log says, and how often PEMS was changed.
#
# All cases run at the same time, each on a record of its own.  What counts for the breaker is spread
# over several endpoints, never five in a row on one.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;
use Time::HiRes qw(time);

my $t = PemsSync::Test->new('outcomes',
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 2, request_timeout => '1s', connect_timeout => '1s' });
$t->add_organization($_) for 'MAIN', "R&D #1/\x{dc}";
for my $code (qw(STATUS DROP HANG REUSE))
{
    $t->add_fake(lc $code);
    $t->add_organization($code, fake => lc $code);
}
my $elsewhere = $t->add_fake('elsewhere');

# An answer that was lost although PEMS had done it: read, and done.
my $found_applied = qr/^%s, GET 200$/;
# One that PEMS had not done: read, and sent again.
my $sent_again = qr/^%s, GET 200, PUT 200$/;

sub like_after
{
    my ($pattern, $first) = @_;
    my $text = sprintf "$pattern", $first;
    return qr/$text/;
}

my %items;    # by modification, in the end

# name => { fault(s); org; status, code, retries, attempts, changes: what is expected; edit: more for the edit;
#           before: called with PFA id before the commit; within: SQL in the transaction of the commit;
#           after: called at the end }
my @cases = (
    # ---- done ----
    'plain' => { status => 'synced', retries => 0, attempts => qr/^PUT 200$/, changes => 1 },
    'newVersion with a gap' =>
      { fault => { newVersionBump => 3 }, status => 'synced', retries => 0, attempts => qr/^PUT 200, GET 200$/, changes => 1 },
    'a delete' => { edit => { operation => 'DELETE' }, status => 'synced', retries => 0, attempts => qr/^DELETE 200$/, changes => 1 },

    # PEMS has it, and the mirror must follow, however long that takes
    'a gap, and the record cannot be read for a while' =>
      { fault => [ { newVersionBump => 3, call => 'update', count => 1 }, { status => 500, call => 'read', count => 4 } ], status => 'synced',
        attempts => qr/^PUT 200(?:, GET 500 SERVER_ERROR){4}, GET 200$/, changes => 1 },
    # what the versions in between were, nobody will ever tell
    'a gap, and the record is deleted before it can be read' =>
      { fault => [ { newVersionBump => 3, call => 'update', count => 1 }, { status => 500, call => 'read', count => 3 } ], meddle => 1,
        status => 'synced', attempts => qr/^PUT 200(?:, GET 500 SERVER_ERROR){3}(?:, GET 404(?: NOT_FOUND)?){5}$/, changes => 1,
        after => sub {
            my ($case) = @_;
            my $mirror = $t->mirror('MAIN', $case->{pfa_id});
            ok(!defined $mirror->{deleted_at}, "$case->{name}: the mirror is not marked, as PEMS said that it has our write");
            is($mirror->{version}, 1, "$case->{name}: and shows the version whose data it has");
            is($t->sql("SELECT string_agg(version::text, ' ' ORDER BY version) FROM pems_mirror_version WHERE pfa_id = '$case->{pfa_id}'"), '1',
                "$case->{name}: the history claims nothing");
        } },
    'an organization whose code needs escapes' => { org => "R&D #1/\x{dc}", status => 'synced', retries => 0,
        before => sub { $t->fake->edit({ organizationCode => "R&D #1/\x{dc}", pfaId => $_[0], changes => { description => 'x' } }) },
        attempts => qr/^PUT 409 VERSION_CONFLICT, GET 200, PUT 200$/, changes => 1 },

    # ---- accepted, and not made ----
    'newVersion is the version sent, and nothing is done' => { fault => { body => { success => JSON::PP::true, newVersion => 1 }, ownId => 1, status => 200, count => 1000, call => 'update' },
        status => 'failed', code => 'NOT_APPLIED', retries => 2, attempts => qr/^PUT 200 NOT_APPLIED(?:, GET 200, PUT 200 NOT_APPLIED){2}$/, changes => 0,
        after => sub { is($t->mirror('MAIN', $_[0]{pfa_id})->{data}{monthlyRate}, 5500, "$_[0]{name}: the mirror does not claim it") } },
    'newVersion is lower than the version sent' => { fault => { body => { success => JSON::PP::true, newVersion => 0 }, ownId => 1, status => 200, count => 1000, call => 'update' },
        status => 'failed', code => 'NOT_APPLIED', retries => 2, attempts => qr/^PUT 200 NOT_APPLIED(?:, GET 200, PUT 200 NOT_APPLIED){2}$/, changes => 0 },
    'newVersion is the version sent, once' => { fault => { body => { success => JSON::PP::true, newVersion => 1 }, ownId => 1, status => 200, call => 'update' },
        status => 'synced', retries => 1, attempts => qr/^PUT 200 NOT_APPLIED, GET 200, PUT 200$/, changes => 1 },
    'newVersion is the version sent, but it is done' => { fault => { body => { success => JSON::PP::true, newVersion => 1 }, ownId => 1, status => 200, apply => JSON::PP::true, call => 'update' },
        status => 'synced', retries => 1, attempts => qr/^PUT 200 NOT_APPLIED, GET 200$/, changes => 1 },
    'a delete whose newVersion is the version sent' => { fault => { body => { success => JSON::PP::true, newVersion => 1 }, ownId => 1, status => 200, call => 'delete', count => 1000 },
        edit => { operation => 'DELETE' }, status => 'failed', code => 'NOT_APPLIED', retries => 2,
        attempts => qr/^DELETE 200 NOT_APPLIED(?:, GET 200, DELETE 200 NOT_APPLIED){2}$/, changes => 0 },
    'a value that the database cannot hold, in a key that nobody needs' => { fault => { apply => JSON::PP::true, status => 200, call => 'update', ownId => 1,
        body => '{"success": true, "pfaId": "OURS", "newVersion": 2, "more": [1e999999, "\\u0000", "\\ud800"]}' }, status => 'synced', retries => 0, attempts => qr/^PUT 200$/, changes => 1 },

    # ---- rejected ----
    (map { ("status $_" => { fault => { status => $_ }, status => 'failed', code => 'INVALID_REQUEST', retries => 0,
        attempts => qr/^PUT $_ INVALID_REQUEST$/, changes => 0 }) } 400, 405, 422),
    '403 on one record' => { fault => { status => 403 }, status => 'failed', code => 'FORBIDDEN', retries => 0,
        attempts => qr/^PUT 403 FORBIDDEN$/, changes => 0 },
    'success:false' => { fault => { successFalse => JSON::PP::true }, status => 'failed', code => 'INVALID_REQUEST', retries => 0,
        attempts => qr/^PUT 200 INVALID_REQUEST$/, changes => 0 },
    'success:false VALIDATION_FAILED' => { fault => { successFalse => 'VALIDATION_FAILED' }, status => 'failed',
        code => 'INVALID_REQUEST', retries => 0, attempts => qr/^PUT 200 INVALID_REQUEST$/, changes => 0 },
    'redirect' => { fault => { redirect => $elsewhere->url . '/pems/pfa/PFA-1' }, status => 'failed', code => 'REDIRECT',
        retries => 0, attempts => qr/^PUT 302 REDIRECT$/, changes => 0 },
    '307 with the method kept' => { fault => { redirect => $elsewhere->url . '/pems/pfa/PFA-1', status => 307 }, status => 'failed',
        code => 'REDIRECT', retries => 0, attempts => qr/^PUT 307 REDIRECT$/, changes => 0 },
    'endless body' => { fault => { endlessBody => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => qr/^PUT (?:200 )?RESPONSE_TOO_LARGE, GET 200$/, changes => 1 },
    'huge headers' => { fault => { hugeHeaders => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => qr/^PUT (?:200 )?RESPONSE_TOO_LARGE, GET 200$/, changes => 1 },

    # ---- version ----
    '409, another field' => { before => \&other_field_changed, status => 'synced', retries => 0,
        attempts => qr/^PUT 409 VERSION_CONFLICT, GET 200, PUT 200$/, changes => 1,
        after => sub {
            my ($case, $fake) = @_;
            my ($first, undef, $second) = $fake->requests(pfaId => $case->{pfa_id});
            is_deeply([ map { $_->{version} } $first, $second ], [ 1, 2 ], "$case->{name}: sent with the current version");
            is($fake->record('MAIN', $case->{pfa_id})->{data}{description}, 'changed in PEMS', "$case->{name}: the other change is kept");
        } },
    '409, the same field' => { before => \&same_field_changed, status => 'conflict', code => 'CONFLICT', retries => 0,
        attempts => qr/^PUT 409 VERSION_CONFLICT, GET 200$/, changes => 0,
        after => sub {
            my ($case, $fake) = @_;
            my $conflict = $t->conflict($case->{id});
            is_deeply([ @$conflict{qw(kind local_version pems_version status)} ], [ 'update_update', 1, 2, 'unresolved' ],
                "$case->{name}: the conflict");
            is_deeply($conflict->{conflict_fields}, ['monthlyRate'], "$case->{name}: its field");
            is_deeply([ map { $_->{monthlyRate} } @$conflict{qw(base_data local_data pems_data)} ], [ 5500, 4000, 9000 ],
                "$case->{name}: all three sides");
            is($fake->record('MAIN', $case->{pfa_id})->{data}{monthlyRate}, 9000, "$case->{name}: PEMS keeps its value");
        } },
    '409 whose content is ours' => { before => sub { change($_[0], monthlyRate => 4000) }, status => 'synced', retries => 0,
        attempts => qr/^PUT 409 VERSION_CONFLICT, GET 200$/, changes => 0 },
    '409, changed and changed back' => { before => sub { change($_[0], monthlyRate => 1); change($_[0], monthlyRate => 5500) },
        status => 'synced', retries => 0, attempts => qr/^PUT 409 VERSION_CONFLICT, GET 200, PUT 200$/, changes => 1 },
    '412' => { fault => { status => 412 }, status => 'synced', retries => 0,
        attempts => qr/^PUT 412 VERSION_CONFLICT, GET 200, PUT 200$/, changes => 1 },
    'success:false VERSION_CONFLICT' => { fault => { successFalse => 'VERSION_CONFLICT' }, status => 'synced', retries => 0,
        attempts => qr/^PUT 200 VERSION_CONFLICT, GET 200, PUT 200$/, changes => 1 },
    '409 without end' => { fault => { status => 409, error => 'VERSION_CONFLICT', call => 'update', count => 1000 }, status => 'failed',
        code => 'VERSION_CONFLICT', retries => 2, attempts => qr/^(?:PUT 409 VERSION_CONFLICT, GET 200, ){14}PUT 409 VERSION_CONFLICT$/, changes => 0 },
    'delete of a changed record' => { edit => { operation => 'DELETE' }, before => \&other_field_changed, status => 'conflict',
        code => 'CONFLICT', retries => 0, attempts => qr/^DELETE 409 VERSION_CONFLICT, GET 200$/, changes => 0,
        after => sub { is($t->conflict($_[0]{id})->{kind}, 'changed_in_pems_before_delete', "$_[0]{name}: the kind of conflict") } },
    '409 with another error' => { fault => { status => 409, error => 'RECORD_LOCKED' }, status => 'synced', retries => 1,
        attempts => qr/^PUT 409 CONFLICT, (?:GET 200, )?PUT 200$/, changes => 1 },

    # ---- gone ----
    'update of a deleted record' => { before => \&deleted, status => 'conflict', code => 'NOT_FOUND', retries => 0,
        attempts => qr/^PUT 404 NOT_FOUND, GET 404 NOT_FOUND, GET 404 NOT_FOUND$/, changes => 0,
        after => sub {
            my ($case) = @_;
            is($t->conflict($case->{id})->{kind}, 'deleted_in_pems', "$case->{name}: the kind of conflict");
            ok(defined $t->mirror('MAIN', $case->{pfa_id})->{deleted_at}, "$case->{name}: the mirror knows");
        } },
    'delete of a deleted record' => { edit => { operation => 'DELETE' }, before => \&deleted, status => 'synced', retries => 0,
        attempts => qr/^DELETE 404 NOT_FOUND, GET 404 NOT_FOUND, GET 404(?: NOT_FOUND)?$/, changes => 0 },
    'a 410 that is not confirmed' => { fault => { status => 410, call => 'update' }, status => 'synced', retries => 0,
        attempts => qr/^PUT 410 NOT_FOUND, GET 200, PUT 200$/, changes => 1 },
    # a replica that lags does not know a record for a moment
    'a read that finds nothing, once' => { fault => [ { status => 500, call => 'update', count => 1 }, { status => 404, call => 'read', count => 1 } ],
        status => 'synced', retries => 1, attempts => qr/^PUT 500 SERVER_ERROR, GET 404 NOT_FOUND, GET 200, PUT 200$/, changes => 1,
        after => sub { ok(!defined $t->mirror('MAIN', $_[0]{pfa_id})->{deleted_at}, "$_[0]{name}: the record is alive") } },
    'a read that answers 410, once' => { fault => [ { status => 500, call => 'update', count => 1 }, { status => 410, call => 'read', count => 1 } ],
        status => 'synced', retries => 1, attempts => qr/^PUT 500 SERVER_ERROR, GET 410 NOT_FOUND, GET 200, PUT 200$/, changes => 1 },
    'a refresh that finds nothing, once' => { fault => [ { newVersionBump => 3, call => 'update', count => 1 }, { status => 404, call => 'read', count => 1 } ],
        status => 'synced', retries => 0, attempts => qr/^PUT 200, GET 404 NOT_FOUND, GET 200$/, changes => 1,
        after => sub { ok(!defined $t->mirror('MAIN', $_[0]{pfa_id})->{deleted_at}, "$_[0]{name}: the record is alive") } },
    # a route or a right for writing is missing: no loop, and a sentence
    '404 of every write, and the record is there' => { fault => { status => 404, call => 'update', count => 1000 }, status => 'failed', code => 'NOT_FOUND',
        retries => 2, attempts => qr/^(?:PUT 404 NOT_FOUND, GET 200, ){14}PUT 404 NOT_FOUND$/, changes => 0,
        after => sub { like($items{ $_[0]{id} }{last_error}, qr/404 to this write, although it shows the record/, "$_[0]{name}: says what that means") } },
    'a 404 that is not confirmed' => { fault => { status => 404, call => 'update' }, status => 'synced', retries => 0,
        attempts => qr/^PUT 404 NOT_FOUND, GET 200, PUT 200$/, changes => 1 },
    'a record that was never known' => { before => \&deleted, within => q{DELETE FROM pfa_mirror WHERE organization_id = 'org-main' AND pfa_id = '%s'},
        status => 'failed', code => 'NOT_FOUND', retries => 0, attempts => qr/^GET 404 NOT_FOUND, GET 404 NOT_FOUND$/, changes => 0 },

    # ---- transient ----
    '500' => { fault => { status => 500 }, status => 'synced', retries => 1, attempts => like_after($sent_again, 'PUT 500 SERVER_ERROR'), changes => 1 },
    '500, but applied' => { fault => { status => 500, apply => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 500 SERVER_ERROR'), changes => 1 },
    '500 of a delete, but applied' => { fault => { status => 500, apply => JSON::PP::true }, edit => { operation => 'DELETE' }, status => 'synced',
        retries => 1, attempts => qr/^DELETE 500 SERVER_ERROR, GET 404 NOT_FOUND, GET 404(?: NOT_FOUND)?$/, changes => 1 },
    # the trouble of one connection, not of the endpoint
    (map { my ($status, $code) = @$_; ("status $status" => { fault => { status => $status }, status => 'synced', retries => 1,
        attempts => like_after($sent_again, "PUT $status $code"), changes => 1 }) } [ 408, 'TIMEOUT' ], [ 421, 'UNAVAILABLE' ], [ 425, 'UNAVAILABLE' ]),
    '408, but applied' => { fault => { status => 408, apply => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 408 TIMEOUT'), changes => 1 },
    (map { ("$_" => { org => 'STATUS', fault => { status => $_ }, status => 'synced', retries => 1,
        attempts => like_after($sent_again, "PUT $_ UNAVAILABLE"), changes => 1 }) } 502, 503, 504),
    'success:false SERVICE_UNAVAILABLE' => { org => 'STATUS', fault => { successFalse => 'SERVICE_UNAVAILABLE' }, status => 'synced',
        retries => 1, attempts => like_after($sent_again, 'PUT 200 UNAVAILABLE'), changes => 1 },

    # ---- unknown ----
    'drop before apply' => { org => 'DROP', fault => { dropBeforeApply => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($sent_again, 'PUT NETWORK_ERROR'), changes => 1 },
    'apply, then drop' => { org => 'DROP', fault => { applyThenDrop => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT NETWORK_ERROR'), changes => 1 },
    'apply, then reset' => { org => 'DROP', fault => { applyThenDrop => JSON::PP::true, reset => JSON::PP::true }, status => 'synced',
        retries => 1, attempts => like_after($found_applied, 'PUT NETWORK_ERROR'), changes => 1 },
    'truncated' => { fault => { truncate => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'garbage' => { fault => { garbage => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'a page for people' => { fault => { html => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($sent_again, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'an empty body' => { fault => { emptyBody => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'another record' => { fault => { wrongId => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'no newVersion' => { fault => { noNewVersion => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    '201 with an array' => { fault => { status => 201, body => [ 1, 2 ], apply => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 201 BAD_RESPONSE'), changes => 1 },
    '202, and it was done' => { fault => { accepted => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT 202 ACCEPTED'), changes => 1 },
    '202, and it was not' => { fault => { accepted => JSON::PP::true, apply => JSON::PP::false }, status => 'synced', retries => 1,
        attempts => like_after($sent_again, 'PUT 202 ACCEPTED'), changes => 1 },
    'hang' => { org => 'HANG', fault => { hang => JSON::PP::true }, status => 'synced', retries => 1,
        attempts => like_after($sent_again, 'PUT TIMEOUT'), changes => 1 },
    'a slow body' => { org => 'HANG', fault => { slowBody => 100 }, status => 'synced', retries => 1,
        attempts => qr/^PUT (?:200 )?TIMEOUT, GET 200$/, changes => 1 },
    'an answer that comes too late' => { org => 'HANG', fault => { delayAfterApplyMs => 3000 }, status => 'synced', retries => 1,
        attempts => like_after($found_applied, 'PUT TIMEOUT'), changes => 1 },
    # Lost, and then somebody else works on the record, before we look: see meddle() below.
    'lost, then another field changes' => { fault => { emptyBody => JSON::PP::true }, meddle => { description => 'meanwhile' }, status => 'synced',
        retries => 1, attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'lost, then ours is overwritten' => { fault => { emptyBody => JSON::PP::true }, meddle => { monthlyRate => 9999 }, status => 'conflict',
        code => 'CONFLICT', retries => 1, attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'lost, then ours is put back to what it was' => { fault => { emptyBody => JSON::PP::true }, meddle => { monthlyRate => 5500 },
        status => 'conflict', code => 'CONFLICT', retries => 1, attempts => like_after($found_applied, 'PUT 200 BAD_RESPONSE'), changes => 1 },
    'lost, then the record is deleted' => { fault => { emptyBody => JSON::PP::true }, meddle => 'delete', status => 'conflict',
        code => 'NOT_FOUND', retries => 1, attempts => qr/^PUT 200 BAD_RESPONSE, GET 404 NOT_FOUND, GET 404 NOT_FOUND$/, changes => 1 },
    'a read that fails, too' => { fault => [ { emptyBody => JSON::PP::true, call => 'update', count => 1 }, { status => 500, call => 'read', count => 1 } ],
        status => 'synced', retries => 2, attempts => qr/^PUT 200 BAD_RESPONSE, GET 500 SERVER_ERROR, GET 200$/, changes => 1 },
);

sub change
{
    my ($pfa_id, %changes) = @_;
    return $t->fake->edit({ organizationCode => 'MAIN', pfaId => $pfa_id, changes => \%changes });
}
sub other_field_changed { return change($_[0], description => 'changed in PEMS') }
sub same_field_changed  { return change($_[0], monthlyRate => 9000) }
sub deleted { return $t->fake->edit({ organizationCode => 'MAIN', pfaId => $_[0], delete => JSON::PP::true }) }

my @list;
while (my ($name, $case) = splice @cases, 0, 2)
{
    my $number = @list + 1;
    push @list, { name => $name, org => 'MAIN', pfa_id => sprintf('PFA-%03d', $number), %$case };
}

# ---- prepare, commit, wait ----

for my $code (sort keys %{ { map { $_->{org} => 1 } @list } })
{
    $t->load($code, map { $_->{pfa_id} } grep { $_->{org} eq $code } @list);
}
my (@within, %ids);
for my $case (@list)
{
    my $faults = $case->{fault} // [];
    $faults = [ { count => 1, %$faults } ] if ref $faults ne 'ARRAY';
    for my $fault (grep { delete $_->{ownId} } @$faults)
    {
        ref $fault->{body} ? $fault->{body}{pfaId} = $case->{pfa_id} : $fault->{body} =~ s/OURS/$case->{pfa_id}/;
    }
    $t->fake_of($case->{org})->fault(map { { pfaId => $case->{pfa_id}, %$_ } } @$faults) if @$faults;
    $case->{id} = $t->edit($case->{org}, $case->{pfa_id}, $case->{edit} ? {} : { monthlyRate => 4000 }, %{ $case->{edit} // {} });
    $case->{before}->($case->{pfa_id}) if $case->{before};
    push @within, sprintf "$case->{within};", $case->{pfa_id} if $case->{within};
    push @{ $ids{ $case->{org} } }, $case->{id};
}
$t->sql(join "\n", 'BEGIN;', (map { PemsSync::Test::commit_statement($_, $ids{$_}) . ';' } sort keys %ids), @within, 'COMMIT;');

# Somebody works on a record as soon as our write is in PEMS and before its answer is missed.
for my $case (grep { $_->{meddle} } @list)
{
    my %edit = ref $case->{meddle} ? (changes => $case->{meddle}) : (delete => JSON::PP::true);
    ok($t->wait_until(sub { $t->fake->changes(pfaId => $case->{pfa_id}, by => 'client') > 0 }, what => 'a write in PEMS', timeout => 2),
        "$case->{name}: PEMS has it");
    $t->fake->edit({ organizationCode => 'MAIN', pfaId => $case->{pfa_id}, %edit });
}
$t->holds_nothing('while requests hang');
$t->is_calm('while requests hang');
ok($t->quiet(timeout => 40), 'all cases come to an end');

# ---- what came of each ----

%items = map { $_->{modification_id} => $_ } $t->rows('SELECT * FROM pfa_write_queue');
my %modifications = map { $_->{id} => $_ } $t->rows('SELECT * FROM pfa_modification');
my %item_status = (synced => 'completed', failed => 'failed', conflict => 'conflict');
my %audit;
push @{ $audit{ $_->{modification_id} } }, $_ for $t->rows('SELECT * FROM pems_audit_log WHERE modification_id IS NOT NULL ORDER BY at, attempt NULLS FIRST');
for my $case (@list)
{
    my ($name, $id) = @$case{qw(name id)};
    my $item     = $items{$id};
    my @lines    = @{ $audit{$id} };
    my @attempts = grep { defined $_->{http_method} } @lines;
    my $text     = join ', ', map { join ' ', grep { defined } @$_{qw(http_method http_status error_code)} } @attempts;

    is("$modifications{$id}{sync_status} $item->{status}", "$case->{status} $item_status{$case->{status}}", "$name: status")
      or diag($item->{last_error});
    is($item->{error_code}, $case->{code}, "$name: error_code");
    is($item->{retry_count}, $case->{retries}, "$name: retries") if exists $case->{retries};
    like($text, $case->{attempts}, "$name: attempts in the audit log");
    is(scalar $t->fake_of($case->{org})->changes(pfaId => $case->{pfa_id}, by => 'client'), $case->{changes}, "$name: changes in PEMS");
    is(scalar(grep { defined $_->{error_code} && ($_->{error} // '') !~ /\w+ \w+/ } @lines), 0, "$name: each error has a sentence");
    like($item->{last_error} // '', $case->{code} ? qr/\w+ \w+/ : qr/^$/, "$name: last_error");
    is($modifications{$id}{sync_error}, $item->{last_error}, "$name: the modification says the same");
    $case->{after}->($case, $t->fake_of($case->{org})) if $case->{after};
}
is(scalar $elsewhere->requests, 0, 'redirects were not followed');

# Two seconds lie between a write that may still be under way and the read.
my $soonest = $t->sql(<<'SQL');
SELECT extract(epoch FROM min(r.at - w.at)) FROM pems_audit_log w
JOIN pems_audit_log r ON r.item_id = w.item_id AND r.attempt = w.attempt + 1 AND r.http_method = 'GET'
WHERE w.http_method <> 'GET' AND (w.error_code IN ('SERVER_ERROR', 'UNAVAILABLE', 'BAD_RESPONSE', 'ACCEPTED', 'NETWORK_ERROR', 'TIMEOUT'))
SQL
cmp_ok($soonest, '>=', 1.9, 'a lost write is read at least two seconds later');

# ---- a connection that is reused ----

# libcurl repeats a request by itself when a reused connection breaks; that must not happen.
my $reuse = $t->fake('reuse');
$t->load('REUSE', 'PFA-1', 'PFA-2', 'PFA-3');
for my $round (1 .. 3)
{
    my $id = $t->commit_edit('REUSE', 'PFA-1', { monthlyRate => $round });
    ok($t->wait_status($id, 'synced'), "edit $round over a connection that stays");
}
is($reuse->stats->{connections}{used}, 1, 'one connection for all');
for my $case ([ 'PFA-2', {} ], [ 'PFA-3', { reset => JSON::PP::true } ])
{
    my ($pfa_id, $more) = @$case;
    my $before = $reuse->stats->{connections}{used};
    $reuse->fault({ pfaId => $pfa_id, count => 1, applyThenDrop => JSON::PP::true, delayMs => 50, %$more });
    my $id = $t->commit_edit('REUSE', $pfa_id, { monthlyRate => 4 });
    ok($t->wait_until(sub { $reuse->changes(pfaId => $pfa_id, by => 'client') > 0 }, what => 'the write'), "$pfa_id: PEMS has it");
    is($reuse->stats->{connections}{used}, $before, "$pfa_id: over the reused connection");
    ok($t->wait_status($id, 'synced'), "$pfa_id: synced");
    is($t->attempts($id), 'PUT NETWORK_ERROR, GET 200', "$pfa_id: by a read");
    is(scalar $reuse->changes(pfaId => $pfa_id, by => 'client'), 1, "$pfa_id: PEMS was changed once");
    is(scalar $reuse->requests(pfaId => $pfa_id, method => 'PUT'), 1, "$pfa_id: one PUT");
}

$t->finish;
