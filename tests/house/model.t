# model.t: the models of the pools' protocol, in their smaller searches; scripts/model runs all.
use strict;
use warnings;
use FindBin;
use Test::More;

my $tap = `"$FindBin::Bin/../../scripts/model" quick 2>&1`;
my $status = $?;
my $claims = 0;
for (split /\n/, $tap) {
    next if !/^(not )?ok \d+ - (.*)$/;
    $claims++;
    ok(!$1, $2);
}
ok($status == 0 && $claims > 5 && $tap =~ /^1\.\.$claims$/m, 'scripts/model quick ran to its end') or diag($tap);
done_testing();
