# Scenario 29: back to version 3 of a record that PEMS has in version 6, while the mirror is still at 5.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('rollback', settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1h' });
$t->add_organization('RIO');
my $fake = $t->fake;

# A record in version 5 on both sides, and in PEMS with one change more, which is version 6.
sub six_versions
{
    my ($pfa_id, %sixth) = @_;
    $t->load('RIO', $pfa_id);
    my @ids = $t->edits('RIO', map { [ $pfa_id, $_ ] } { monthlyRate => 2000 }, { monthlyRate => 3000 }, { dor => 'PROJECT' }, { monthlyRate => 5000 });
    $t->commit('RIO', \@ids);
    ok($t->wait_status($ids[-1], 'synced'), "$pfa_id: four edits make version 5");
    $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => \%sixth });
    return;
}

sub roll_back
{
    my ($pfa_id, $version) = @_;
    return decode_json($t->sql("SELECT pems_rollback('org-rio', '$pfa_id', $version, 'Wrong contract', 'boss')"));
}

my $wanted = [ { field => 'dor', from => 'PROJECT', to => 'BEO' }, { field => 'monthlyRate', from => 5000, to => 3000 } ];

subtest 'scenario 29: rollback to version 3 when PEMS is at 6' => sub {
    six_versions('S29-1', description => 'written in PEMS');
    is_deeply(decode_json($t->sql("SELECT pems_rollback_preview('org-rio', 'S29-1', 3)")), { changes => $wanted }, 'the preview says what would change');
    my $answer = roll_back('S29-1', 3);
    is_deeply($answer->{changes}, $wanted, 'the rollback says the same');
    my $id = $answer->{modificationId};
    ok($t->wait_status($id, 'synced'), 'it is synced');
    $t->story_is($id, 'it met version 6, was merged with it, and is version 7',
        status   => 'synced completed',
        events   => 'ROLLBACK_REQUESTED COMMITTED WRITE_ATTEMPT READ_ATTEMPT WRITE_ATTEMPT',
        requests => 'PUT v5 409, GET 200, PUT v6 200', keys => '5, 6',
        changes  => 'v6>v7 {"dor":"BEO","monthlyRate":3000}', versions => '7 7 7');
    is($fake->record('RIO', 'S29-1')->{data}{description}, 'written in PEMS', 'what somebody wrote in PEMS is still there');
    is_deeply([ map { @$_{qw(modifiedBy reason)} } grep { $_->{applied} } $fake->requests(pfaId => 'S29-1', modifiedBy => 'boss') ],
        [ 'boss', 'Wrong contract' ], 'PEMS knows who and why');
    $t->mirror_is_pems('RIO', 'S29-1');
};

subtest 'scenario 29: a rollback does not overwrite what somebody wrote in PEMS' => sub {
    six_versions('S29-2', monthlyRate => 6666);
    my $id = roll_back('S29-2', 3)->{modificationId};
    ok($t->wait_status($id, 'conflict'), 'it is in conflict');
    $t->story_is($id, 'nothing was written',
        status => 'conflict conflict', error => 'CONFLICT', conflicts => 'update_update unresolved', changes => '', versions => '- 6 6');
    $t->sides_are($t->conflict($id), 'with all three sides', monthlyRate => [ 5000, 3000, 6666 ], dor => [ 'PROJECT', 'BEO', 'PROJECT' ]);
    is($fake->record('RIO', 'S29-2')->{data}{monthlyRate}, 6666, 'PEMS keeps its value');
};

$t->finish;
