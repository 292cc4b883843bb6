package attest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/pkg/excerpt"
)

// appID makes ec-verify's name of a machine different from those of other programs.
var appID = []byte{0x36, 0x3a, 0x26, 0x93, 0xfc, 0x99, 0x4a, 0xe1, 0xbf, 0x96, 0x80, 0x26, 0x37, 0x12, 0x94, 0x15}

// MachineIDFile is the file with the machine's own identifier, see machine-id(5).
const MachineIDFile = "/etc/machine-id"

// Machine returns the name, in statements, of the machine with that machine-id(5): 32
// hexadecimal digits that stay the same and do not reveal the identifier, which is
// confidential. It is the output of
//
//	systemd-id128 machine-id --app-specific=363a2693-fc99-4ae1-bf96-802637129415
//
// on that machine, see sd_id128_get_machine_app_specific(3).
func Machine(id string) (string, error) {
	key, err := hex.DecodeString(strings.TrimSpace(id))
	if err != nil || len(key) != 16 {
		return "", fmt.Errorf("machine id: want 32 hexadecimal digits, not %q", clip(id))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(appID)
	sum := mac.Sum(nil)[:16]
	sum[6] = sum[6]&0x0f | 0x40 // a version 4 UUID
	sum[8] = sum[8]&0x3f | 0x80
	return hex.EncodeToString(sum), nil
}

// ThisMachine is [Machine] for the machine that this program runs on.
func ThisMachine() (string, error) {
	id, err := hostfile.ReadSmall(MachineIDFile, 4<<10)
	if err != nil {
		return "", err
	}
	return Machine(string(id))
}

func clip(s string) string { return excerpt.Of(s, 64) }
