// Package forge puts a release on a forge by the API that Forgejo and Gitea
// share (https://HOST/api/swagger, "repository", releases):
//
//	GET    /repos/OWNER/REPO/releases/tags/TAG      find a release
//	GET    /repos/OWNER/REPO/releases?page=&limit=  the same, for drafts
//	POST   /repos/OWNER/REPO/releases               create one
//	PATCH  /repos/OWNER/REPO/releases/ID            make it a draft, or publish it
//	GET    /repos/OWNER/REPO/releases/ID/assets     what it holds
//	POST   /repos/OWNER/REPO/releases/ID/assets     add an asset
//	DELETE /repos/OWNER/REPO/releases/ID/assets/ID  take one away
//
// A forge keeps assets of one name side by side, so that [Client.Publish]
// deletes before it adds. While it is at work the release is a draft, which
// nobody but its writers sees: to a reader it is there as it was, then not
// there, then there as it is now, and never a mixture. What fails on the way
// leaves a draft, and the same command again completes it.
//
// Contents are streamed; no library is used for the API since those that there
// are (code.gitea.io/sdk and its descendant) hold an asset in memory as a whole.
package forge
