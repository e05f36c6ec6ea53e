// Changes who a secured cluster knows and what they may do, with Kafka's own client: a line of stdin each, words with tabs
// between, until stdin ends. Answers "ok" once the broker goes by it, or what is wrong.
//
//   java -cp JARS Admin.java BROKERS PROPERTIES_FILE
//
//   user NAME PASSWORD                                   lets NAME in by SCRAM-SHA-512
//   allow USER TYPE RESOURCE LITERAL|PREFIXED OPERATION,…    TYPE is TOPIC, GROUP, CLUSTER or TRANSACTIONAL_ID
//   revoke USER TYPE RESOURCE LITERAL|PREFIXED OPERATION,…
import java.io.BufferedReader;
import java.io.FileReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

class Admin {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        try (FileReader file = new FileReader(args[1])) {
            p.load(file);
        }
        p.put("bootstrap.servers", args[0]);
        var lines = new BufferedReader(new InputStreamReader(System.in));
        try (var admin = org.apache.kafka.clients.admin.Admin.create(p)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String said = "ok";
                try {
                    tell(admin, line.split("\t"));
                } catch (Exception e) {
                    said = String.valueOf(e).replace('\n', ' ');
                }
                System.out.println(said);
                System.out.flush();
            }
        }
    }

    static void tell(org.apache.kafka.clients.admin.Admin admin, String[] words) throws Exception {
        switch (words[0]) {
            case "user" -> {
                var how = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096);
                admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(words[1], how, words[2]))).all().get();
                until(() -> admin.describeUserScramCredentials().all().get().containsKey(words[1]));
            }
            case "allow" -> {
                List<AclBinding> all = bindings(words);
                admin.createAcls(all).all().get();
                until(() -> known(admin).containsAll(all));
            }
            case "revoke" -> {
                List<AclBinding> all = bindings(words);
                admin.deleteAcls(all.stream().map(AclBinding::toFilter).toList()).all().get();
                until(() -> known(admin).stream().noneMatch(all::contains));
            }
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    static List<AclBinding> bindings(String[] words) {
        var resource = new ResourcePattern(ResourceType.valueOf(words[2]), words[3], PatternType.valueOf(words[4]));
        List<AclBinding> all = new ArrayList<>();
        for (String operation : words[5].split(",")) {
            var allowed = AclPermissionType.ALLOW;
            var entry = new AccessControlEntry("User:" + words[1], "*", AclOperation.valueOf(operation), allowed);
            all.add(new AclBinding(resource, entry));
        }
        return all;
    }

    static HashSet<AclBinding> known(org.apache.kafka.clients.admin.Admin admin) throws Exception {
        return new HashSet<>(admin.describeAcls(AclBindingFilter.ANY).values().get());
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    // the controller has it before the broker does
    static void until(Condition condition) throws Exception {
        while (!condition.holds()) {
            Thread.sleep(10);
        }
    }
}
