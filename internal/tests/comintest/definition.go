package comintest

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

type field struct {
	number int32
	name   string
	kind   string // a message's name, string or int64; with [] in front repeated
}

// definition has the messages of comin's services.proto that a state is made of, and
// the one that confirms. Fields that comin fills and that nobody here asks for are
// among them: who reads a state has to pass over them.
var definition = map[string][]field{
	"ConfirmRequest": {{1, "generationUuid", "string"}, {2, "for", "string"}},
	"Flag":           {{1, "value", "int64"}}, // google.protobuf.BoolValue, on the wire
	"Time":           {{1, "seconds", "int64"}, {2, "nanos", "int64"}},
	"Generation": {
		{1, "uuid", "string"}, {3, "hostname", "string"}, {4, "selected_remote_url", "string"},
		{7, "selected_commit_id", "string"}, {8, "selected_commit_msg", "string"},
		{9, "selected_branch_is_testing", "Flag"}, {13, "eval_status", "string"}, {14, "eval_started_at", "Time"},
		{17, "out_path", "string"}, {18, "drv_path", "string"}, {19, "machine_id", "string"},
		{20, "build_status", "string"}, {24, "repository_path", "string"}, {26, "system_attr", "string"},
	},
	"Confirmer": {
		{1, "mode", "int64"}, {2, "submitted", "string"}, {3, "confirmed", "string"},
		{4, "autoconfirm_duration", "int64"}, {5, "autoconfirm_started_at", "Time"}, {6, "autoconfirm_started", "Flag"},
	},
	"Deployment": {{1, "uuid", "string"}, {2, "generation", "Generation"}, {7, "profile_path", "string"}, {9, "operation", "string"}},
	"Deployer":   {{1, "is_deploying", "Flag"}, {2, "deployment", "Deployment"}, {3, "generation_to_deploy", "Generation"}},
	"Builder":    {{3, "generation", "Generation"}, {4, "generation_uuid", "string"}, {6, "hostname", "string"}},
	"Store":      {{1, "deployments", "[]Deployment"}, {2, "generations", "[]Generation"}, {9, "deployment_boot_entry_capacity", "int64"}},
	"State": {
		{1, "need_to_reboot", "Flag"}, {2, "is_suspended", "Flag"}, {3, "builder", "Builder"}, {4, "deployer", "Deployer"},
		{6, "store", "Store"}, {7, "build_confirmer", "Confirmer"}, {8, "deploy_confirmer", "Confirmer"},
	},
	"Empty": nil,
}

// messages are those of the definition, by name.
var messages = func() map[string]protoreflect.MessageDescriptor {
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("services.proto"), Package: proto.String("protobuf"), Syntax: proto.String("proto3"),
	}
	for name, fields := range definition {
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for _, f := range fields {
			d := &descriptorpb.FieldDescriptorProto{
				Name: proto.String(f.name), Number: proto.Int32(f.number), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}
			kind := f.kind
			if len(kind) > 2 && kind[:2] == "[]" {
				kind = kind[2:]
				d.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			switch kind {
			case "string":
				d.Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
			case "int64":
				d.Type = descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum()
			default:
				d.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
				d.TypeName = proto.String(".protobuf." + kind)
			}
			m.Field = append(m.Field, d)
		}
		file.MessageType = append(file.MessageType, m)
	}
	built, err := protodesc.NewFile(file, nil)
	if err != nil {
		panic(err)
	}
	out := make(map[string]protoreflect.MessageDescriptor)
	for name := range definition {
		out[name] = built.Messages().ByName(protoreflect.Name(name))
	}
	return out
}()

// message is a message being filled.
type message struct{ *dynamicpb.Message }

func newMessage(name string) message { return message{dynamicpb.NewMessage(messages[name])} }

func (m message) field(name string) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(protoreflect.Name(name))
}

func (m message) set(name string, v any) message {
	if sub, ok := v.(message); ok {
		m.Set(m.field(name), protoreflect.ValueOfMessage(sub.Message))
		return m
	}
	m.Set(m.field(name), protoreflect.ValueOf(v))
	return m
}

func (m message) add(name string, sub message) {
	m.Mutable(m.field(name)).List().Append(protoreflect.ValueOfMessage(sub.Message))
}

func (m message) text(name string) string { return m.Get(m.field(name)).String() }
